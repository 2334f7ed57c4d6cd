"""The answer of a lookup that has to wait, beside "unknown". Pure."""

from enum import Enum


class Pending(Enum):
    """The type of PENDING, so that a type checker knows it from other answers."""

    PENDING = "pending"


PENDING = Pending.PENDING
"""The lookup is not allowed now: ask again later."""
