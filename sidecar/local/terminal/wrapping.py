"""
Break text by words for a terminal. Pure.

Rule: no line is wider than the width. A word that is too long, such as an ARN, is broken after punctuation if possible.
A wide character, such as a Chinese one, uses two columns (Unicode Annex #11).
"""

import unicodedata
from collections.abc import Iterator

_BREAKS_AFTER = "/:,;=-_."
"""The characters after which a long word is broken."""


def columns(text: str) -> int:
    """Return the number of columns that the text uses."""
    return len(text) if text.isascii() else sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of the text. Each line has at most `width` columns, or one character that is wider."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if columns(joined) <= width:
            lines[-1] = joined
            continue
        *full, last = _pieces(word, width)
        lines += [*full, last]
    return [line for line in lines if line] or [""]


def _pieces(word: str, width: int) -> Iterator[str]:
    """Yield the parts of a word. Each part has at most `width` columns, or one character."""
    while columns(word) > width:
        end = _fitting(word, width)
        punctuation = max(word.rfind(character, 0, end) for character in _BREAKS_AFTER) + 1
        end = punctuation if punctuation > end // 2 else end
        yield word[:end]
        word = word[end:]
    yield word


def _fitting(word: str, width: int) -> int:
    """Return how many characters of the word fit, at least one."""
    used = 0
    for index, character in enumerate(word):
        used += _columns_of(character)
        if used > width:
            return max(index, 1)
    return len(word)
