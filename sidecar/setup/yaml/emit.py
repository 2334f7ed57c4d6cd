"""
Write values as YAML or JSON.

Rule: readers of YAML 1.1 and of YAML 1.2 get the same value. Text is written without quotes only if readers of both
versions interpret it as text. Integers are written only in decimal. Pure.
"""

import json
import math
import re
from typing import Any, NamedTuple

import yaml

from sidecar.setup.yaml.scalars import resolve_scalar

_PLAIN = re.compile(r"[A-Za-z0-9/_.](?:[\w./@%+,-]|:(?=[^\s:]|:[^\s:]))*", re.ASCII)
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z0-9/_.][\w./@%+-]*", re.ASCII)
"""
Pattern for text that needs no quotes in braces. Text with a colon needs quotes, because go-yaml and libyaml read it
differently.
"""

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Pattern for characters that JSON does not escape, but that YAML rejects or reads as line breaks."""

_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers


class Layout(NamedTuple):
    """The indentation in a document: `step` for a nested mapping, and `list_offset` for a list in a mapping."""

    step: int = 2
    list_offset: int = 0


def is_collection(value: Any) -> bool:
    """Return whether the value is a mapping or a list that is not empty."""
    return isinstance(value, dict | list) and bool(value)


def block_lines(value: Any, indent: int, layout: Layout) -> list[str]:
    """Return the lines for a mapping or list that is not empty."""
    if isinstance(value, dict):
        return [line for key, each in value.items() for line in entry_lines(key, each, indent, layout)]
    return [line for each in value for line in item_lines(each, indent, layout)]


def entry_lines(key: str, value: Any, indent: int, layout: Layout) -> list[str]:
    """Return the lines for one key and its value."""
    head = f"{' ' * indent}{text_of(key)}:"
    if not is_collection(value):
        return [f"{head} {inline(value)}"]
    inner = indent + (layout.step if isinstance(value, dict) else layout.list_offset)
    return [head, *block_lines(value, inner, layout)]


def item_lines(value: Any, indent: int, layout: Layout) -> list[str]:
    """Return the lines for one item of a list."""
    dash = f"{' ' * indent}- "
    if not is_collection(value):
        return [dash + inline(value)]
    first, *others = block_lines(value, indent + 2, layout)
    return [dash + first[indent + 2 :], *others]


def inline(value: Any) -> str:
    """Return the value in a form that can follow its key on the same line."""
    return flow(value) if is_collection(value) else _scalar(value, _PLAIN)


def flow(value: Any) -> str:
    """Return the value on one line, with braces and brackets."""
    if isinstance(value, dict):
        return "{" + ", ".join(flow_entry(key, each) for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return _scalar(value, _PLAIN_IN_FLOW)


def flow_entry(key: str, value: Any) -> str:
    """Return one key and its value in the form for braces."""
    return f"{_text(key, _PLAIN_IN_FLOW)}: {flow(value)}"


def text_of(text: str) -> str:
    """Return the text, with quotes if they are necessary."""
    return _text(text, _PLAIN)


def quoted(text: str) -> str:
    """Return the text in double quotes."""
    escaped = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)


def _scalar(value: Any, plain: re.Pattern[str]) -> str:
    if isinstance(value, str):
        return _text(value, plain)
    return _float(value) if isinstance(value, float) else json.dumps(value)


def _float(number: float) -> str:
    if math.isnan(number):
        return ".nan"
    if math.isinf(number):
        return ".inf" if number > 0 else "-.inf"
    digits, letter, exponent = repr(number).partition("e")
    # YAML 1.1 requires a point, and a sign in the exponent.
    sign = "" if exponent.startswith(("-", "+")) or not letter else "+"
    return f"{digits}{'' if '.' in digits else '.0'}{letter}{sign}{exponent}"


def _text(text: str, plain: re.Pattern[str]) -> str:
    return text if plain.fullmatch(text) and _is_text_to_all(text) else quoted(text)


def _is_text_to_all(text: str) -> bool:
    """Return whether kubectl and readers of YAML 1.1 and 1.2 all interpret the unquoted text as text."""
    if not isinstance(resolve_scalar(text, None, is_implicit=True), str):
        return False
    resolvers = _RESOLVERS.get(text[0], [])
    return not any(pattern.match(text) for _, pattern in resolvers)
