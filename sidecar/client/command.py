"""
The command that `exec` and `local` run: started with our signals unblocked, and waited for as process 1 has to.

Rule: as process 1 of a container we are the parent of every orphan, and reap them (waitpid(2)). As any other process we
wait for the command alone.
"""

import errno
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import trio

from sidecar.client.signals import Received

_IGNORED_BY_PYTHON = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name))
"""Signals that Python ignores for itself. A command expects their default."""


class Command:
    """A running command. Create it by `start`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], mask: Iterable[int]) -> "Command":
        """
        Start the command with these signals blocked, as they were when we started. Raises OSError.

        posix_spawn sets the mask after the fork: the command could get no signal otherwise, because ours are blocked.
        """
        if not command[0]:  # posix_spawnp raises a ValueError
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return cls(os.posix_spawnp(command[0], [*command], environment, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON))

    async def wait(self, deaths: AsyncIterator[int]) -> int:
        """
        Return the command's exit status, or 128 and the number of the signal that ended it.

        `deaths` is a receiver of SIGCHLD that was opened before the command started.
        """
        self._reap()
        while self._status is None:
            await anext(deaths)
            self._reap()
        return self._status if self._status >= 0 else 128 - self._status

    def pass_on(self, received: Received) -> None:
        """Send the signal to the command, unless the terminal has sent it there as well."""
        if self._status is None and not (received.is_from_terminal and self._is_in_our_group()):
            os.kill(self.pid, received.number)

    def _is_in_our_group(self) -> bool:
        try:
            return os.getpgid(self.pid) == os.getpgrp()
        except ProcessLookupError:
            return False

    def _reap(self) -> None:
        """Reap all that have ended."""
        which = -1 if os.getpid() == 1 else self.pid
        while self._status is None or which == -1:
            try:
                pid, status = os.waitpid(which, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self._status = os.waitstatus_to_exitcode(status)


async def pass_signals_on(signals: trio.MemoryReceiveChannel[Received], command: Command) -> None:
    """Pass on every signal until cancelled."""
    async for received in signals:
        command.pass_on(received)
