"""
Who was given which credentials: one event a hand-out, summed up when there are too many to write.

Each second has a budget of lines. What exceeds it is counted by role and key, and told in one line at the end of
that second, so that no flood of requests makes logging set the pace and no hand-out goes unmentioned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecar.listen import format_address
from sidecar.store import Snapshot

LINES_A_SECOND = 10

Peer = tuple[Any, ...]
"""A client's address as its socket has it: host, port, and two more numbers with IPv6."""


@dataclass(slots=True)
class _Sum:
    """The hand-outs of one set that no line was left for."""

    expiration: str
    count: int = 0


class Audit:
    """Takes hand-outs as they happen. `wake` is called when there is something to `flush` a second later."""

    def __init__(self, write: Callable[..., Any], wake: Callable[[], None]) -> None:
        self._write = write
        self._wake = wake
        self._second = 0
        self._lines = 0
        self._sums: dict[tuple[str, str], _Sum] = {}

    def record(self, role: str, snapshot: Snapshot, peer: Peer, monotonic: float) -> None:
        """One hand-out of the role's set to `peer`."""
        second = int(monotonic)
        if second != self._second:
            self._second, self._lines = second, 0
        credentials = snapshot.credentials
        if self._lines < LINES_A_SECOND:
            self._lines += 1
            self._tell(role, credentials.access_key_id, credentials.expiration, peer=format_address(*peer[:2]))
            return
        if not self._sums:
            self._wake()
        key = (role, credentials.access_key_id)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum(credentials.expiration)
        found.count += 1

    def flush(self) -> None:
        """Tell what was summed up, in one line for each role and set."""
        sums, self._sums = self._sums, {}
        for (role, access_key_id), found in sums.items():
            self._tell(role, access_key_id, found.expiration, count=found.count)

    def _tell(self, role: str, access_key_id: str, expiration: str, **more: Any) -> None:
        self._write("credentials_handed_out", role=role, access_key_id=access_key_id, expiration=expiration, **more)
