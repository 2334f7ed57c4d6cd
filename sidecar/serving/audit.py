"""
Log which clients got credentials (`credentials_served`), and which clients were denied (`request_denied`).

Rule: a flood of requests does not fill the log, and every response with credentials is in the log. Each second has one
budget of lines for served credentials and one for denials. Denied clients therefore cannot use up the lines of the
others. Responses above the budget are counted by role and access key, or by role and reason. At the end of the second,
one line reports each count.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.addresses import format_address
from sidecar.log import Logger
from sidecar.serving.container_credentials import Response

if TYPE_CHECKING:  # only types
    from sidecar.serving.peer import Peer

LINES_A_SECOND = 10
"""Budget of log lines per second, for served credentials, and separately for denials."""

Address = tuple[Any, ...]
"""A client's address as its socket returns it: host and port, and with IPv6 two more numbers."""

MAX_CLIENTS = 5
"""Number of users that `Usage` keeps for each role. Most Pods have one or two."""

_SERVED, _DENIED = "credentials_served", "request_denied"


def _full_budget() -> dict[bool, int]:
    """Return the budget of lines for one second, for served credentials (True) and for denials (False)."""
    return {True: LINES_A_SECOND, False: LINES_A_SECOND}


class Seen(NamedTuple):
    """The last response to a user that a log line names: the client's process, and the time on the monotonic clock."""

    pid: int | None
    served_at: float


class Usage:
    """The use of one role: the number of responses with credentials, and the last users, oldest first."""

    __slots__ = ("clients", "served")

    def __init__(self) -> None:
        self.served = 0
        self.clients: dict[int | None, Seen] = {}

    def add(self, count: int, peer: "Peer | None", monotonic: float) -> None:
        self.served += count
        if peer is not None:
            self.clients.pop(peer.uid, None)
            self.clients[peer.uid] = Seen(peer.pid, monotonic)
            if len(self.clients) > MAX_CLIENTS:
                del self.clients[next(iter(self.clients))]

    def newest_clients(self) -> list[tuple[int | None, Seen]]:
        return list(self.clients.items())[::-1]


class _Sum:
    """The number of responses above the budget with the same event, role, and key or reason."""

    __slots__ = ("count", "event", "fields")

    def __init__(self, event: str, fields: dict[str, Any]) -> None:
        self.event = event
        self.fields = fields
        self.count = 0


class Audit:
    """
    The audit log of one listener. It calls `wake` when `flush` must be called within a second.

    The caller reserves a line before it sends the response, because the client can be looked up only before that. A
    response with a `peer` gets a line; the others are counted. `usage` collects the use of each role, by its name, from
    the lines. It needs no work for a response without a line.
    """

    def __init__(self, log: Logger, wake: Callable[[], None], usage: dict[str, Usage] | None = None) -> None:
        self._log = log
        self._wake = wake
        self._usage = {} if usage is None else usage
        self._reserved_at = 0.0
        self._second = 0
        self._left = _full_budget()
        self._sums: dict[tuple[str | None, str | None], _Sum] = {}

    def reserve_line(self, response: Response, monotonic: float) -> bool:
        """Return whether this response gets one of the lines of this second. If so, the caller sets its `peer`."""
        is_served = response.snapshot is not None
        if not is_served and response.denial is None:
            return False
        second = int(monotonic)
        if second != self._second:
            self._second, self._left = second, _full_budget()
        if self._left[is_served] == 0:
            return False
        self._left[is_served] -= 1
        self._reserved_at = monotonic
        return True

    def record(self, response: Response, address: Address) -> None:
        """Log or count a response that was sent. Ignore it unless it served or denied credentials."""
        if response.snapshot is None and response.denial is None:
            return
        if response.peer is not None:
            known = {name: value for name, value in response.peer._asdict().items() if value is not None}
            event, fields = _event(response)
            self._count(event, fields, 1, response.peer)
            self._emit(event, **fields, peer=format_address(*address[:2]), **known)
            return
        if not self._sums:
            self._wake()
        key = (
            response.role_name,
            response.snapshot.credentials.access_key_id if response.snapshot else response.denial,
        )
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum(*_event(response))
        found.count += 1

    def flush(self) -> None:
        """Log the counted responses, in one line for each role and key or reason."""
        sums, self._sums = self._sums, {}
        for found in sums.values():
            self._count(found.event, found.fields, found.count)
            self._emit(found.event, **found.fields, count=found.count)

    def _count(self, event: str, fields: Mapping[str, Any], count: int, peer: "Peer | None" = None) -> None:
        if event == _SERVED:
            self._usage.setdefault(fields["role_name"], Usage()).add(count, peer, self._reserved_at)

    def _emit(self, event: str, **fields: Any) -> None:
        (self._log.warning if event == _DENIED else self._log.info)(event, **fields)


def _event(response: Response) -> tuple[str, dict[str, Any]]:
    """Return the event's name and its fields, without those of the client."""
    if response.snapshot is None:
        return _DENIED, {"role_name": response.role_name, "reason": response.denial}
    credentials = response.snapshot.credentials
    return _SERVED, {
        "role_name": response.role_name,
        "access_key_id": credentials.access_key_id,
        "expiration": credentials.expiration,
    }
