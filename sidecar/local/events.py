"""
Define how the local services log their events.

Rule: names are in the past tense, and no event contains a secret. docs/reference/log-events.md lists them with fields.
"""

from typing import Any, Protocol


class Emit(Protocol):
    """A function that accepts an event's name and fields. It must not raise or block."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...
