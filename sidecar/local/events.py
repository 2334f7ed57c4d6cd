"""
Define how the local services log their events.

Rule: names are in the past tense, and no event contains a secret. docs/reference/log-events.md lists the events with
their fields.
"""

from typing import Any, Protocol

FEED_ONLY_FIELDS = frozenset({"component", "exchange"})
"""Fields that are only in the events of the feed (feed.py), and not in the log."""


class Emit(Protocol):
    """A function that accepts an event's name and fields. It must not raise or block."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...
