"""
Read a list of the API server item by item, so that only one item at a time is in memory as Python objects. Pure.

A user of the cluster can create objects with 100,000 empty elements, for example in `secrets` of a ServiceAccount. As
Python objects, a list of such objects uses 25 times the memory of its JSON.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_EMPTY_PAGES = 100
"""Maximum number of consecutive pages without items. An API server may send such pages if it filters the items."""

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def members(body: bytes) -> Iterator[tuple[str, Any]]:
    """
    Yield the names and values of the object in the body. Yield each item of `items` separately, with this name.

    Raises ValueError, TypeError or RecursionError if the body is not a JSON object.
    """
    reader = _Reader(body.decode())
    reader.expect("{")
    if reader.skip("}"):
        return
    while True:
        name = reader.value()
        if not isinstance(name, str):
            raise TypeError("a name is not a string")
        reader.expect(":")
        if name == "items" and reader.skip("["):
            yield from ((name, item) for item in reader.elements())
        else:
            yield name, reader.value()
        if reader.skip("}"):
            return
        reader.expect(",")


class Progress:
    """The tokens of the pages of one list. Without a limit, a broken API server could keep a command running."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._empty_pages = 0

    def ends(self, token: str, items: int) -> bool:
        """Return whether the list makes no progress: its token occurs again, or too many pages had no items."""
        self._empty_pages = 0 if items else self._empty_pages + 1
        is_repeated = token in self._tokens
        self._tokens.add(token)
        return is_repeated or self._empty_pages > MAX_EMPTY_PAGES


class _Reader:
    """A position in a JSON text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self) -> Any:
        value, self._at = _decode(self._text, self._after_space())
        return value

    def elements(self) -> Iterator[Any]:
        """Yield the elements of a list whose bracket was read."""
        if self.skip("]"):
            return
        while True:
            yield self.value()
            if self.skip("]"):
                return
            self.expect(",")

    def skip(self, mark: str) -> bool:
        """Skip this character if it is the next one. Return whether it was."""
        at = self._after_space()
        is_next = self._text.startswith(mark, at)
        self._at = at + is_next
        return is_next

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            raise ValueError(f"{mark} is missing at character {self._at}")

    def _after_space(self) -> int:
        found = _SPACE.match(self._text, self._at)
        return found.end() if found else self._at
