"""
Start the command of `exec` and `local`, pass signals on to it, and return its exit status.

Rule: process 1 of a container is the parent of every orphan and reaps all of them (waitpid(2)). Any other process waits
only for the command.
"""

import errno
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import trio

from sidecar.client.signals import Received

_IGNORED_BY_PYTHON = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name))
"""Signals that Python ignores in its own process. The command gets the default action for each of them."""


class Command:
    """A running command. `start` creates it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], mask: Iterable[int]) -> "Command":
        """
        Start the command with the signal mask `mask`, which this process had at its start.

        posix_spawn sets the mask after the fork. Otherwise the command would inherit our mask, and receive no signal.

        Raises OSError if the command cannot be started.
        """
        if not command[0]:  # posix_spawnp would raise a ValueError
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return cls(os.posix_spawnp(command[0], [*command], environment, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON))

    async def wait(self, exits: AsyncIterator[int]) -> int:
        """
        Return the command's exit status, or 128 plus the number of the signal that ended it.

        `exits` receives SIGCHLD. The receiver must be open before the command starts.
        """
        self._reap()
        while self._status is None:
            await anext(exits)
            self._reap()
        return self._status if self._status >= 0 else 128 - self._status

    def pass_on(self, received: Received) -> None:
        """Send the signal to the command, unless the terminal has already done so."""
        if self._status is None and not (received.is_from_terminal and self._is_in_our_group()):
            os.kill(self.pid, received.number)

    def _is_in_our_group(self) -> bool:
        try:
            return os.getpgid(self.pid) == os.getpgrp()
        except ProcessLookupError:
            return False

    def _reap(self) -> None:
        """Reap the command if it has ended. Process 1 reaps every child that has ended."""
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
    """Send every received signal on to the command, until cancelled."""
    async for received in signals:
        command.pass_on(received)
