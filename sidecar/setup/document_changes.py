"""
Change the Pods in a document's text. Pure.

Rule: the result is read again and must have the wanted value. If the value differs, the Pods are written as new text.
If that also fails, the whole document is written as new text. In both cases, the result contains a note.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.document import Document
from sidecar.setup.pod_kinds import Path
from sidecar.setup.text_edits import Edit, with_edits
from sidecar.setup.yaml.edit import edits_for, equal, json_text
from sidecar.setup.yaml.reader import Mapping as MappingNode
from sidecar.setup.yaml.reader import Node
from sidecar.setup.yaml.reader import Sequence as SequenceNode
from sidecar.setup.yaml.stream import read_document

_ATTEMPTS = 3
"""Number of methods to try: edits in place, then new text for the Pods, then new text for the whole document."""


class PodChange(NamedTuple):
    """The Pod that replaces the value at `path` below the root with the index `root`. `title` names the object."""

    root: int
    path: Path
    title: str
    pod: Document


class DocumentEdits(NamedTuple):
    """The edits to the document's text, and notes for the person."""

    edits: list[Edit]
    notes: tuple[str, ...]


def document_edits(text: str, changes: list[PodChange]) -> DocumentEdits:
    """
    Return the edits that change the Pods in the text.

    Raises ConfigurationError if every method fails.
    """
    for attempt in range(_ATTEMPTS):
        edits, wanted = _attempt(text, changes, attempt)
        if _has_values(with_edits(text, edits), wanted):
            return DocumentEdits(edits, tuple(_note(each) for each in changes if attempt))
    raise ConfigurationError(
        f"{changes[0].title} cannot be changed as it is written",
        fix="Write it without anchors, tags and explicit keys",
    )


def _attempt(text: str, changes: list[PodChange], attempt: int) -> tuple[list[Edit], list[Any]]:
    """Return the edits, and the wanted value of each root. The nodes, which need most memory, are freed."""
    document = read_document(text)
    wanted = [
        _replaced(value, [(each.path, each.pod) for each in changes if each.root == root])
        for root, value in enumerate(document.values)
    ]
    if equal(wanted, list(document.values)):
        return [], wanted
    if not document.roots:
        return [Edit(len(document.mark), len(text), json_text(document.text, wanted[0]))], wanted
    rewritten: list[Node] = []
    if attempt:
        is_last = attempt == _ATTEMPTS - 1
        rewritten = [_node_at(document.roots[each.root], () if is_last else each.path) for each in changes]
    edits = edits_for(document.text, list(zip(document.roots, wanted, strict=True)), rewritten)
    return [edit.moved(len(document.mark)) for edit in edits], wanted


def _has_values(text: str, wanted: list[Any]) -> bool:
    return equal(list(read_document(text).values), wanted)


def _note(change: PodChange) -> str:
    return (
        f"{change.title} was written as new text without its comments and aliases, because its YAML cannot be edited "
        "in place."
    )


def _replaced(value: Any, changes: Iterable[tuple[Path, Document]]) -> Any:
    """Return the value with new parts at these paths. Unchanged parts are not copied."""
    by_step: dict[Any, list[tuple[Path, Document]]] = {}
    for path, new in changes:
        if not path:
            return new
        by_step.setdefault(path[0], []).append((path[1:], new))
    copied = value.copy() if by_step else value
    for step, inner in by_step.items():
        copied[step] = _replaced(value[step], inner)
    return copied


def _node_at(node: Node, path: Path) -> Node:
    """Return the node at the path, or the nearest node above it that has its own text outside an alias."""
    for step in path:
        inner: Mapping[Any, Node] = {}
        if isinstance(node, MappingNode):
            inner = {name: item for name, (_, item) in node.own.items()}
        elif isinstance(node, SequenceNode):
            inner = dict(enumerate(node.items))
        if step not in inner:
            break
        node = inner[step]
    return node
