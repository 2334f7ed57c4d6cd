"""
Who was given which credentials: one event a hand-out, summed up when there are too many to write.

Each second has a budget of lines. What exceeds it is counted by role and key, and told in one line at the end of
that second, so that no flood of requests makes logging set the pace and no hand-out goes unmentioned.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from sidecar.listen import format_address
from sidecar.store import Snapshot

LINES_A_SECOND = 10

Peer = tuple[Any, ...]
"""A client's address as its socket has it: host, port, and two more numbers with IPv6."""


class Audit:
    """Takes hand-outs as they happen; `flush`, called every second while `is_behind`, tells the summed-up rest."""

    def __init__(self, write: Callable[..., Any], wake: Callable[[], None]) -> None:
        self._write = write
        self._wake = wake
        self._second = 0
        self._lines = 0
        self._summed: Counter[tuple[str, str, str]] = Counter()

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
        if not self._summed:
            self._wake()
        self._summed[role, credentials.access_key_id, credentials.expiration] += 1

    def flush(self) -> None:
        """Tell what was summed up, in one line for each role and set."""
        summed, self._summed = self._summed, Counter()
        for (role, access_key_id, expiration), count in summed.items():
            self._tell(role, access_key_id, expiration, count=count)

    def _tell(self, role: str, access_key_id: str, expiration: str, **more: Any) -> None:
        self._write("credentials_handed_out", role=role, access_key_id=access_key_id, expiration=expiration, **more)
