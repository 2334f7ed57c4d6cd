"""
Read the values of the chart with their comments and their schema.

Rule: a comment above a key describes that key. At the top level it also describes the next keys, up to an empty line.
A value without a comment gets the meaning of its name in MEANINGS.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tests.docs.reference.markdown import code, codes
from tests.support.manifests import K8S

VALUES, SCHEMA = K8S / "chart" / "values.yaml", K8S / "chart" / "values.schema.json"

_KEY = re.compile(r"(?P<indent> *)(?P<name>[\w-]+):(?P<rest>.*)")
_COMMENT = re.compile(r"(?P<indent> *)#(?: (?P<text>.*))?")
_INLINE = re.compile(r"\s#\s?(?P<text>.*)$")

_TYPES = {
    "array": "a list",
    "boolean": "`true` or `false`",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "a string",
}


MEANINGS: Mapping[str, str] = {
    "affinity": "The affinity of the webhook's Pods.",
    "annotations": "Annotations of the objects.",
    "certificate": "The certificate of the webhook.",
    "digest": "The digest of the image, in the form `sha256:…`.",
    "enabled": "true: the chart creates the objects.",
    "labels": "Labels of the objects.",
    "limits": "The limits of the container.",
    "livenessProbe": "The liveness probe of the webhook.",
    "metricRelabelings": "Relabelings of samples, in the form of the PodMonitor.",
    "networkPolicy": "The network policy of the webhook.",
    "nodeSelector": "Labels of the nodes on which the webhook may run.",
    "podDisruptionBudget": "The PodDisruptionBudget of the webhook.",
    "pullPolicy": "The policy for pulling the image.",
    "rbac": "The roles and bindings of the webhook.",
    "readinessProbe": "The readiness probe of the webhook.",
    "relabelings": "Relabelings of targets, in the form of the PodMonitor.",
    "repository": "The repository of the image.",
    "requests": "The requests of the container.",
    "interval": "The interval between two scrapes.",
    "serviceAccount": "The ServiceAccount of the webhook.",
    "service": "The Service of the webhook.",
    "tag": "The tag of the image.",
    "tolerations": "Taints of nodes that the webhook tolerates.",
    "unhealthyPodEvictionPolicy": "The rule for evictions of Pods that are not ready, as in a PodDisruptionBudget.",
    "https": "The port for the API server.",
    "admin": "The port for probes and Prometheus.",
}
"""The meaning of values that have no comment, by the last part of their path."""


class Value(NamedTuple):
    """One value: its dotted path, its comment, its default and its schema. A group contains other values."""

    path: str
    comment: str
    default: Any
    schema: Mapping[str, Any]
    is_group: bool


def values(text: str | None = None, schema: Mapping[str, Any] | None = None) -> list[Value]:
    """Return every value of the chart, in the order of the file, with each group before its members."""
    text = VALUES.read_text(encoding="utf-8") if text is None else text
    root = json.loads(SCHEMA.read_text(encoding="utf-8")) if schema is None else schema
    return list(_members("", yaml.safe_load(text), root, root, comments(text)))


def _members(
    prefix: str,
    mapping: Mapping[str, Any],
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    texts: Mapping[str, str],
) -> Iterator[Value]:
    for name, default in mapping.items():
        path = f"{prefix}{name}"
        own = resolved(schema.get("properties", {}).get(name, {}), root)
        is_group = isinstance(default, dict) and bool(default) and set(default) <= set(own.get("properties", ()))
        yield Value(path, _meaning(name, texts.get(path, "")), default, own, is_group)
        if is_group:
            yield from _members(f"{path}.", default, own, root, texts)


def _meaning(name: str, comment: str) -> str:
    """Return the comment. If it is missing or a single word, return the meaning of the value's name."""
    return comment if " " in comment else MEANINGS.get(name, comment)


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema, or the definition to which it refers."""
    name = str(schema.get("$ref", "")).removeprefix("#/definitions/")
    return root["definitions"][name] if name else schema


def comments(text: str) -> dict[str, str]:
    """Return the comment above each key, by the key's dotted path."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    block = _Block()
    for line in text.splitlines():
        if comment := _COMMENT.fullmatch(line):
            block = block.with_line(len(comment["indent"]), comment["text"] or "")
        elif key := _KEY.fullmatch(line):
            indent = len(key["indent"])
            parents = [*(each for each in parents if each[0] < indent), (indent, key["name"])]
            inline = _INLINE.search(key["rest"])
            texts = [block.for_key(indent), inline["text"] if inline else ""]
            found[".".join(name for _, name in parents)] = " ".join(filter(None, texts))
            block = block._replace(is_used=True)
        elif not line.strip():
            block = _Block()
    return found


class _Block(NamedTuple):
    """The comment lines above a key. `is_used` is true once a key has used these lines."""

    indent: int = 0
    lines: tuple[str, ...] = ()
    is_used: bool = False

    def with_line(self, indent: int, text: str) -> "_Block":
        is_new = self.is_used or indent != self.indent
        return _Block(indent, (text,) if is_new else (*self.lines, text))

    def for_key(self, indent: int) -> str:
        """Return the comment if it describes a key with this indent."""
        return " ".join(self.lines) if indent == self.indent and not (self.is_used and indent) else ""


def renamed(schema: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Yield each old name of a value, with the schema's message about the new name."""
    root = json.loads(SCHEMA.read_text(encoding="utf-8")) if schema is None else schema

    def walk(prefix: str, node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, own in node.get("properties", {}).items():
            if isinstance(own.get("const"), str):
                yield f"{prefix}{name}", str(own["const"])
            yield from walk(f"{prefix}{name}.", own)

    return walk("", root)


def accepted(schema: Mapping[str, Any]) -> str:
    """Return a description of the values that a schema accepts."""
    if "enum" in schema:
        return f"one of {codes(json.dumps(each) if each in (None, '') else str(each) for each in schema['enum'])}"
    types = schema.get("type", [])
    names = " or ".join(_TYPES[each] for each in ([types] if isinstance(types, str) else types))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and "string" not in types:
        return f"{names} from {low} to {high}" if high is not None else f"{names} of at least {low}"
    keys = [name for name, own in schema.get("properties", {}).items() if "const" not in own]
    if not keys:
        return names
    return f"a mapping, with any of the keys {codes(keys)}{', or null' if 'null' in types else ''}"


def shown_default(default: Any) -> str:
    """Return a default as one line of YAML."""
    if default is None or not (default or isinstance(default, (bool, int))):
        return code(json.dumps(default))
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return code(text.removesuffix("\n").removesuffix("\n...").strip())
