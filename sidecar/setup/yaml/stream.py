"""
Split a stream of manifests into documents, and read each.

A line that begins with `---` starts a document, as in kubectl. JSON values that follow each other are documents too.
All parts together are the stream, character for character. Pure.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sidecar.setup.yaml.errors import TooDeepError, UnreadableError
from sidecar.setup.yaml.reader import Node, read_documents

_MARKER = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_BYTE_ORDER_MARK = "\ufeff"
_HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_JSON_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")
_NOT_CONTENT = re.compile(r"(?:---|\.\.\.|[%#][^\r\n]*+|\s)*+")
"""Markers, directives, comments and blanks. Possessive, because comments in comments could be tried in many ways."""


class Document(NamedTuple):
    """
    One part of a stream.

    `mark` is a byte order mark in front of `text`; `line` counts from 1. `values` has what kubectl reads, `roots` the
    same with places; there are no roots for JSON that is not YAML. `error` says why the rest cannot be read.
    """

    mark: str
    text: str
    line: int
    roots: tuple[Node, ...]
    values: tuple[Any, ...]
    error: UnreadableError | None

    @property
    def is_unreadable(self) -> bool:
        """Return whether nothing of it could be read, although there is something."""
        return self.error is not None and not self.values and not _NOT_CONTENT.fullmatch(self.text)


def split_stream(stream: str) -> Iterator[tuple[str, int]]:
    """Yield the text of each document, with the number of its first line."""
    line = 1
    for part in _MARKER.split(stream):
        for text in _json_values(part) or [part]:
            yield text, line
            line += text.count("\n")


def read_document(text: str, line: int = 1) -> Document:
    """Read one document."""
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    roots, error = read_documents(_as_yaml(text))
    values = tuple(root.value for root in roots)
    if not roots and text.lstrip().startswith("{") and not isinstance(error, TooDeepError):
        values = tuple(value for value, _ in _decoded(_JSON_ESCAPE.sub(_whole_escape, text)))
    return Document(mark, text, line, tuple(roots), values, error)


def _as_yaml(text: str) -> str:
    """
    Return JSON of the same length and meaning that libyaml can read; other text as it is.

    libyaml rejects tabs between tokens and the escapes of surrogates. As in Go, a surrogate without its other half is
    U+FFFD.
    """
    is_rare = "\t" in text or "\\ud" in text.lower()
    if not (is_rare and text.lstrip().startswith("{") and _decoded(text)):
        return text
    return _JSON_ESCAPE.sub(_yaml_escape, text.replace("\t", " "))  # strings in JSON have no tabs


def _yaml_escape(found: re.Match[str]) -> str:
    escape = found[0]
    if len(escape) == len(r"\ud83d\ude00"):
        pair = json.loads(f'"{escape}"')
        return f"\\\n\\U{ord(pair):08x}"  # an escaped line break is nothing
    return _whole_escape(found)


def _whole_escape(found: re.Match[str]) -> str:
    """Return the escape, or that of U+FFFD for half of a pair."""
    escape = found[0]
    return r"\ufffd" if _HALF_ESCAPE.fullmatch(escape) else escape


def _json_values(part: str) -> list[str]:
    """Return the texts of JSON values that follow each other; empty unless the part is that and nothing else."""
    if not part.lstrip(f"{_BYTE_ORDER_MARK} \t\r\n").startswith("{"):
        return []
    ends = [end for _, end in _decoded(part)]
    starts = [0, *ends[:-1]]
    return [part[start:end] for start, end in zip(starts, [*ends[:-1], len(part)], strict=True)] if ends else []


def _decoded(text: str) -> list[tuple[Any, int]]:
    """Return the JSON values in the text, and where each ends; empty unless all of it is JSON."""
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
