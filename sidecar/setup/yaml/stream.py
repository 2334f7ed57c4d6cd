"""
Split a stream of manifests into documents, and read each document.

As in kubectl, a line with `---`, alone or before a space or tab, begins a document. Consecutive JSON values are also
separate documents. All parts joined together equal the stream, character by character. Pure.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sidecar.setup.yaml.errors import TooDeepError, UnreadableError
from sidecar.setup.yaml.reader import Node, read_documents

_MARKER = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_BYTE_ORDER_MARK = "\ufeff"
_MARK = re.compile(rf"(?:---[ \t]*\r?\n)?{_BYTE_ORDER_MARK}|")
"""
Pattern for a byte order mark at the beginning of a document, and for the marker line before it.

kubectl reads the text after a marker line as a document of its own, which may begin with the mark.
"""

_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_JSON_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")
_NOT_CONTENT = re.compile(r"(?:---|\.\.\.|[%#][^\r\n]*+|\s)*+")
"""Pattern for markers, directives, comments and spaces. The possessive quantifiers prevent slow backtracking."""


class Document(NamedTuple):
    """
    One part of a stream.

    `mark` is the byte order mark before `text`, with a marker line before the mark, or empty. `line` is the line of
    `text`, counted from 1. `values` are the values in `text`, of which kubectl reads the first. `roots` are the same
    values with positions; JSON that is not valid YAML has none. `error` is the reason why the rest cannot be read, or
    None.
    """

    mark: str
    text: str
    line: int
    roots: tuple[Node, ...]
    values: tuple[Any, ...]
    error: UnreadableError | None

    @property
    def is_unreadable(self) -> bool:
        """Return whether the document has content but none of it could be read."""
        return self.error is not None and not self.values and not _NOT_CONTENT.fullmatch(self.text)


def split_stream(stream: str) -> Iterator[tuple[str, int]]:
    """Yield the text of each document, and the number of its first line."""
    line = 1
    for part in _MARKER.split(stream):
        for text in _json_values(part) or [part]:
            yield text, line
            line += text.count("\n")


def read_document(text: str, line: int = 1) -> Document:
    """Read one document of a stream. `line` is the number of the document's first line."""
    found = _MARK.match(text)
    mark = found[0] if found else ""
    text = text.removeprefix(mark)
    roots, error = read_documents(_as_yaml(text))
    values = tuple(root.value for root in roots)
    if not roots and text.lstrip().startswith("{") and not isinstance(error, TooDeepError):
        values = tuple(value for value, _ in _decoded(_JSON_ESCAPE.sub(_whole_escape, text)))
    return Document(mark, text, line + mark.count("\n"), tuple(roots), values, error)


def _as_yaml(text: str) -> str:
    """
    Return JSON in a form of equal length and value that libyaml can read. Other text is not changed.

    libyaml rejects tabs between tokens and escaped surrogates. As in Go, a lone surrogate becomes U+FFFD.
    """
    is_rare = "\t" in text or "\\ud" in text.lower()
    if not (is_rare and text.lstrip().startswith("{") and _decoded(text)):
        return text
    return _JSON_ESCAPE.sub(_yaml_escape, text.replace("\t", " "))  # strings in JSON contain no tabs


def _yaml_escape(found: re.Match[str]) -> str:
    escape = found[0]
    if len(escape) == len(r"\ud83d\ude00"):
        pair = json.loads(f'"{escape}"')
        return f"\\\n\\U{ord(pair):08x}"  # an escaped line break adds no character
    return _whole_escape(found)


def _whole_escape(found: re.Match[str]) -> str:
    """Return the escape, or U+FFFD's escape for a lone surrogate."""
    escape = found[0]
    return r"\ufffd" if _LONE_SURROGATE.fullmatch(escape) else escape


def _json_values(part: str) -> list[str]:
    """Return the texts of consecutive JSON values, or nothing if the part contains other text."""
    if not part.lstrip(f"{_BYTE_ORDER_MARK} \t\r\n").startswith("{"):
        return []
    ends = [end for _, end in _decoded(part)]
    starts = [0, *ends[:-1]]
    return [part[start:end] for start, end in zip(starts, [*ends[:-1], len(part)], strict=True)] if ends else []


def _decoded(text: str) -> list[tuple[Any, int]]:
    """Return each JSON value in the text and the offset after it. Return nothing if any part is not JSON."""
    decoder, found, at = json.JSONDecoder(), [], _blank_until(text, 0)
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        found.append((value, end))
        at = _blank_until(text, end)
    return found


def _blank_until(text: str, at: int) -> int:
    while at < len(text) and text[at] in f"{_BYTE_ORDER_MARK} \t\r\n":
        at += 1
    return at
