"""Test that connections are accepted in groups, and that an error of one connection does not affect the others."""

import errno
import socket
from contextlib import ExitStack
from itertools import chain

import pytest
import trio
from trio.testing import MockClock

from sidecar.serving import accepting
from sidecar.serving.accepting import MAX_AT_ONCE, PAUSE_SECONDS, accepted


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2 * MAX_AT_ONCE)
    listener.settimeout(0)
    return listener


async def test_waiting_connections_are_accepted_together() -> None:
    with listening() as listener, ExitStack() as stack:
        for _ in range(MAX_AT_ONCE + 3):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        groups = [await accepted(listener), await accepted(listener)]
        for connection in chain(*groups):
            assert connection.gettimeout() == 0
            connection.close()
    assert [len(group) for group in groups] == [MAX_AT_ONCE, 3]


class Listener:
    """A listener that raises errors, and then has no more connections."""

    def __init__(self, *errors: int) -> None:
        self._errors = [*errors]

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(self._errors.pop(0) if self._errors else errno.EAGAIN, "")


@pytest.mark.parametrize(
    ("number", "left"), [(errno.ECONNABORTED, 0), (errno.EPERM, 0), (errno.EMFILE, 1), (errno.ENOMEM, 1)]
)
def test_group_continues_only_after_an_error_of_a_connection(number: int, left: int) -> None:
    listener = Listener(number, errno.ECONNABORTED)
    assert list(accepting._waiting_connections(listener)) == []  # type: ignore[arg-type]
    assert len(listener._errors) == left


async def test_accept_is_retried_if_no_file_descriptor_is_free(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    waiting, failures = accepting._waiting_connections, [1, 1, 1]
    monkeypatch.setattr(
        accepting, "_waiting_connections", lambda each: [] if failures and failures.pop() else waiting(each)
    )
    with listening() as listener, socket.create_connection(listener.getsockname()):
        (connection,) = await accepted(listener)
        connection.close()
        assert trio.current_time() == pytest.approx(3 * PAUSE_SECONDS)
