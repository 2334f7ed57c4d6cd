"""
Escape text from outside so that it is safe to print on a terminal. Pure.

Other people can choose the text in tokens, responses of STS and the API server, environments of Pods, and files on
volumes. Terminals obey escape sequences, and bidirectional or invisible characters make a text look like another text.
`printable` replaces each such character by its escape. Letters, digits, punctuation and spaces of every script stay.
"""

import json
import re

ELLIPSIS = "…"
"""The character at the end of a shortened text."""

_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
"""Spaces with a width (Unicode category Zs), which str.isprintable() rejects."""

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks without a shape: the grapheme joiner, Hangul fillers, inherent vowels of Khmer."""

_SUSPECTS = re.compile(r"[^ -~]")
"""A pattern for characters that need a check. Most texts are ASCII and have no such character."""

_SUSPECTS_IN_JSON = re.compile(r"[^\n -~]")


def printable(text: str, *, keep: str = "", max_length: int | None = None) -> str:
    r"""
    Escape each character of `text` that a terminal would obey, hide or reorder.

    Escapes are Python's: `\x1b`, `\n`, `\u202e`. They replace C0 and C1 controls, DEL, format characters
    (bidirectional overrides and isolates, zero-width characters, tags), line and paragraph separators, lone surrogates
    and unassigned characters. Characters of `keep`, such as a line feed, are not changed. A result of more than
    `max_length` characters is cut between two characters or escapes, and ends with an ellipsis.
    """
    shown = _SUSPECTS.sub(lambda match: match[0] if match[0] in keep else _shown(match[0]), text)
    if max_length is None or len(shown) <= max_length:
        return shown
    return _cut(text, keep, max_length)


def printable_lines(text: str, *, indent: str = "  ", max_length: int | None = None) -> str:
    """
    Escape `text` as `printable` does, but keep its line feeds and tabs.

    Each line after the first begins with `indent`, so no line looks like a separate message.
    """
    return printable(text, keep="\n\t", max_length=max_length).replace("\n", f"\n{indent}")


def printable_json(document: str) -> str:
    r"""Escape each character of a JSON document that `printable` escapes, in the form `\u009b`. Line feeds stay."""
    return _SUSPECTS_IN_JSON.sub(lambda match: _shown_in_json(match[0]), document)


def _shown_in_json(character: str) -> str:
    if _shown(character) == character:
        return character
    return r"\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _shown(character: str) -> str:
    if character in _SPACES or (character.isprintable() and character not in _INVISIBLE):
        return character
    code = ord(character)
    if character in _INVISIBLE:
        return f"\\u{code:04x}"
    return repr(character)[1:-1]


def _cut(text: str, keep: str, max_length: int) -> str:
    """Return as many whole characters and escapes as fit before the ellipsis."""
    parts: list[str] = []
    room = max_length - len(ELLIPSIS)
    for character in text[:max_length]:
        part = character if character in keep else _shown(character)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts) + (ELLIPSIS if max_length > 0 else "")
