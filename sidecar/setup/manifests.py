"""
Manifests as people keep them: what is to change in a Pod changes, and every other byte stays. Pure.

A stream is cut at its document markers, which YAML lets stand for nothing else, and a document that does not change is
passed on as it is. In one that does, the change is made in what ruamel.yaml read, comments and all, and written out.
What ruamel writes otherwise than its author did, a space here and an indent there, is put back: the lines that differ
between its text before and after are the change, and go into the author's text. Whatever comes out is read again, and
must be what was meant. (ruamel.yaml: MIT, released in January 2026, by one author for ten years; none other keeps
comments.)
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sidecar.errors import ConfigurationError
from sidecar.injection.json_patch import applied, json_patch
from sidecar.injection.names import DECLINED, INJECT_LABEL, Document
from sidecar.injection.refusals import asks, declines
from sidecar.injection.settings import ServiceAccount

POD_PATHS: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"), ("spec", "template")
    ),
}
"""Where a Pod, or the template of one, is in a document of each kind."""

_MARKER = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_BARE_MARKER = re.compile(r"---[ \t]*(?:#[^\n]*)?\r?\n")
_WIDTH = 100_000
"""Of a line: long ones are nobody's business here."""


class Workload(NamedTuple):
    """A Pod or the template of one: of what, where, and the ServiceAccount it runs as, if the stream has it."""

    title: str
    pod: Document
    account: ServiceAccount | None


Change = Callable[[Workload], Document]
"""The Pod as it shall be. Raises ConfigurationError."""


class Written(NamedTuple):
    """The stream after, the titles of the workloads that were looked at, and what a person should know."""

    text: str
    workloads: tuple[str, ...]
    notes: tuple[str, ...]


def change_pods(text: str, source: str, change: Change) -> Written:
    """
    Every Pod of the stream, changed: of those that ask by the label, if any does, else of all but those that decline.

    `source` names the stream in messages. Raises ConfigurationError.
    """
    chunks = _MARKER.split(text)
    read = [_read(chunk, source, line) for chunk, line in _with_lines(chunks)]
    objects = [each for document in read for each in _objects(document)]
    accounts = dict(_accounts(objects))
    asks_by_label = any(asks(pod) for _, pod in _pods(objects))
    titles: list[str] = []
    notes: list[str] = []
    written = []
    for chunk, document in zip(chunks, read, strict=True):
        patch = []
        for path, each in _places(document):
            pod = _pod_of(each)
            if pod is None or (asks_by_label and not asks(pod)):
                continue
            if declines(pod):
                notes.append(f'{_title(each)} is left as it is: its label {INJECT_LABEL} is "{DECLINED}".')
                continue
            workload = Workload(_title(each), pod, _account_of(each, pod, accounts))
            titles.append(workload.title)
            patch += json_patch(pod, _changed(change, workload, source), path + _pointer(each))
        written.append(_patched(chunk, document, patch, notes) if patch else chunk)
    return Written("".join(written), tuple(titles), tuple(notes))


def _changed(change: Change, workload: Workload, source: str) -> Document:
    try:
        return change(workload)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {workload.title}: {error}") from error


# Reading


def _with_lines(chunks: list[str]) -> Iterator[tuple[str, int]]:
    line = 1
    for chunk in chunks:
        yield chunk, line
        line += chunk.count("\n")


def _yaml(text: str) -> YAML:
    """A reader and writer that keeps what it can of how `text` is laid out."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    offset = _list_offset(text)
    yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    return yaml


def _list_offset(text: str) -> int:
    """How far `- ` stands in from the key it belongs to; 0 where there is none to see."""
    found = re.search(
        r"^( *)(?:- )?[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*( *)- ", text, re.MULTILINE
    )
    return max(0, len(found[2]) - len(found[1])) if found else 0


def _read(chunk: str, source: str, line: int) -> Any:
    """The document as plain values."""
    try:
        return _plain(_yaml(chunk).load(chunk))
    except YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        at = line + mark.line if mark else line
        raise ConfigurationError(
            f"{source}, line {at}: this is no YAML ({getattr(exc, 'problem', None) or type(exc).__name__}); a template "
            "is one only after `helm template`."
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{source}, line {line}: this document cannot be read ({exc}).") from exc


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


# What is in it


def _objects(document: Any) -> Iterator[Document]:
    yield from (each for _, each in _places(document))


def _places(document: Any) -> Iterator[tuple[str, Document]]:
    """Each object of the document with the pointer to it: the document itself, or the items of a List."""
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        yield from ((f"/items/{index}", each) for index, each in enumerate(items) if isinstance(each, dict))
    else:
        yield "", document


def _accounts(objects: list[Document]) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    for each in objects:
        if each.get("kind") == "ServiceAccount":
            metadata = _mapping(each.get("metadata"))
            annotations = _mapping(metadata.get("annotations"))
            texts = {str(name): text for name, text in annotations.items() if isinstance(text, str)}
            yield (_namespace(each), str(metadata.get("name"))), texts


def _namespace(each: Document) -> str:
    """As written; without one it is that of the context, whichever that will be."""
    return str(_mapping(each.get("metadata")).get("namespace") or "")


def _mapping(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _pods(objects: list[Document]) -> Iterator[tuple[Document, Document]]:
    for each in objects:
        pod = _pod_of(each)
        if pod is not None:
            yield each, pod


def _pod_of(each: Document) -> Document | None:
    path = POD_PATHS.get(str(each.get("kind")))
    if path is None:
        return None
    pod: Any = each
    for key in path:
        pod = pod.get(key) if isinstance(pod, dict) else None
    if not isinstance(pod, dict):
        raise ConfigurationError(f"{_title(each)} has no {'.'.join(path)}: give it one.")
    return pod


def _pointer(each: Document) -> str:
    return "".join(f"/{key}" for key in POD_PATHS[each["kind"]])


def _title(each: Document) -> str:
    metadata, namespace = _mapping(each.get("metadata")), _namespace(each)
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    return f"{each.get('kind')} {namespace}/{name}" if namespace else f"{each.get('kind')} {name}"


def _account_of(
    each: Document, pod: Document, accounts: Mapping[tuple[str, str], dict[str, str]]
) -> ServiceAccount | None:
    name = str(_mapping(pod.get("spec")).get("serviceAccountName") or "default")
    namespace = _namespace(each)
    annotations = accounts.get((namespace, name))
    return None if annotations is None else ServiceAccount(namespace or "default", name, annotations)


# Writing


def _patched(chunk: str, document: Any, patch: list[Document], notes: list[str]) -> str:
    """The document's text with the patch in it."""
    wanted = applied(json.loads(json.dumps(document, default=str)), patch)
    if chunk.lstrip().startswith("{"):
        return json.dumps(wanted, indent=4 if '\n    "' in chunk else 2, ensure_ascii=False) + "\n"
    head, body = _cut(chunk)
    body = body.replace("\r\n", "\n")
    before = _dumped(body, _yaml(body).load(body))
    after = _dumped(body, applied(_yaml(body).load(body), _copies(patch)))
    for text in (_carried_over(body, before, after), after):
        if _means(text, wanted):
            return head + (text.replace("\n", "\r\n") if "\r\n" in chunk else text)
    notes.append("A document whose parts are aliases of each other was written out in full, without its comments.")
    return head + _dumped(body, wanted)


def _cut(chunk: str) -> tuple[str, str]:
    """The marker's line and the document, which may begin on that line."""
    marker = _BARE_MARKER.match(chunk)
    if marker is None and chunk.startswith("---"):
        return "---\n", chunk[3:].lstrip()
    return (marker[0], chunk[marker.end() :]) if marker else ("", chunk)


def _copies(patch: list[Document]) -> list[Document]:
    copied: list[Document] = json.loads(json.dumps(patch))
    return copied


def _dumped(layout: str, data: Any) -> str:
    stream = io.StringIO()
    _yaml(layout).dump(data, stream)
    return stream.getvalue()


def _means(text: str, wanted: Any) -> bool:
    try:
        found = _plain(_yaml(text).load(text))
    except (YAMLError, ValueError):
        return False
    return bool(json.loads(json.dumps(found, default=str)) == wanted)


def _carried_over(text: str, before: str, after: str) -> str:
    """`text` with what differs between `before`, which is another spelling of it, and `after`."""
    theirs, old, new = (each.splitlines(keepends=True) for each in (text, before, after))
    place = _line_places(old, theirs)
    lines: list[str] = []
    shifts: list[int] = []
    for change, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if change == "equal":
            lines += theirs[place[start] : place[end]]
            shifts += [_indent(theirs[min(place[i], len(theirs) - 1)]) - _indent(old[i]) for i in range(start, end)]
            continue
        for index in range(new_start, new_end):
            shifts.append(_shift(new, index, shifts))
            lines.append(" " * (_indent(new[index]) + shifts[-1]) + new[index].lstrip(" "))
    return "".join(lines)


def _shift(new: list[str], index: int, shifts: list[int]) -> int:
    """How much further in a new line stands, as the nearest before it that it belongs to or with does."""
    indent, is_item = _indent(new[index]), new[index].lstrip().startswith("- ")
    for above in range(index - 1, -1, -1):
        found = _indent(new[above])
        # The items of a list may stand as far in as the key after it.
        is_sibling = found == indent and (is_item or not new[above].lstrip().startswith("- "))
        if new[above].strip() and (found < indent or is_sibling):
            return shifts[above]
    return 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _line_places(old: list[str], theirs: list[str]) -> list[int]:
    """For each line of `old`, and for its end, the line of `theirs` that says the same."""
    places = [0] * (len(old) + 1)
    matcher = SequenceMatcher(None, [*map(_words, old)], [*map(_words, theirs)], autojunk=False)
    for _, start, end, their_start, their_end in matcher.get_opcodes():
        for index in range(start, end):
            places[index] = min(their_start + index - start, their_end)
    places[len(old)] = len(theirs)
    return places


def _words(line: str) -> str:
    """A line as far as its spaces say nothing."""
    return re.sub(r"\s+", "", line)
