"""
Who was given which credentials, and who was refused: one event each, summed up when there are too many to write.

Each second has a budget of lines for either kind, so that refused clients cannot use up the others' lines. What
exceeds it is counted by role and key, or reason, and told in one line at the end of that second: no flood of requests
makes logging set the pace, and no hand-out goes unmentioned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecar.addresses import format_address
from sidecar.log import Logger
from sidecar.serving.container_credentials import Answer

LINES_A_SECOND = 10

Peer = tuple[Any, ...]
"""A client's address as its socket has it: host, port, and two more numbers with IPv6."""


def _budget() -> dict[bool, int]:
    """The lines of one second: for hand-outs (True), and for refusals."""
    return {True: LINES_A_SECOND, False: LINES_A_SECOND}


@dataclass(slots=True)
class _Sum:
    """Answers of one kind, role and key or reason that no line was left for."""

    event: str
    fields: dict[str, Any]
    count: int = 0


class Audit:
    """
    Takes answers as they happen. `wake` is called when there is something to `flush` a second later.

    An answer's line is taken before it is sent, because who asked can only be looked up until then: one with an `asker`
    has a line, and one without is summed up.
    """

    def __init__(self, log: Logger, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._second = 0
        self._left = _budget()
        self._sums: dict[tuple[str | None, str | None], _Sum] = {}

    def takes_line(self, answer: Answer, monotonic: float) -> bool:
        """Whether a line of this second is for this answer, which is then to get its `asker`."""
        is_hand_out = answer.snapshot is not None
        if not is_hand_out and answer.refusal is None:
            return False
        second = int(monotonic)
        if second != self._second:
            self._second, self._left = second, _budget()
        if self._left[is_hand_out] == 0:
            return False
        self._left[is_hand_out] -= 1
        return True

    def record(self, answer: Answer, peer: Peer) -> None:
        """An answer that was sent to `peer`. One that neither gave nor refused anything is passed over."""
        if answer.snapshot is None and answer.refusal is None:
            return
        if answer.asker is not None:
            known = {name: value for name, value in answer.asker._asdict().items() if value is not None}
            event, fields = _told(answer)
            self._tell(event, **fields, peer=format_address(*peer[:2]), **known)
            return
        if not self._sums:
            self._wake()
        key = (answer.role, answer.snapshot.credentials.access_key_id if answer.snapshot else answer.refusal)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum(*_told(answer))
        found.count += 1

    def flush(self) -> None:
        """Tell what was summed up, in one line for each role and set or reason."""
        sums, self._sums = self._sums, {}
        for found in sums.values():
            self._tell(found.event, **found.fields, count=found.count)

    def _tell(self, event: str, **fields: Any) -> None:
        (self._log.warning if event == _REFUSED else self._log.info)(event, **fields)


_HANDED_OUT, _REFUSED = "credentials_handed_out", "hand_out_refused"


def _told(answer: Answer) -> tuple[str, dict[str, Any]]:
    """The event, and what it says of the answer whoever asked."""
    if answer.snapshot is None:
        return _REFUSED, {"role": answer.role, "reason": answer.refusal}
    credentials = answer.snapshot.credentials
    return _HANDED_OUT, {
        "role": answer.role,
        "access_key_id": credentials.access_key_id,
        "expiration": credentials.expiration,
    }
