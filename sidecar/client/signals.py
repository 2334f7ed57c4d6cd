"""
Receive signals, and determine whether the terminal or another process sent them.

Rule: on Linux the signals are blocked in all threads and read from a signalfd, which reports the kind of each sender
(si_code, signalfd(2)). A terminal sends its signals to the whole foreground process group, which includes the command.
Another process, such as `docker stop`, sends its signal only to this process. On systems without signalfd, such as
macOS, the signal counts as the terminal's if our process group is in the foreground.
"""

import ctypes
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NamedTuple

import trio

FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})
"""Signals that a terminal sends to the whole foreground group, because of a key or a new size."""

_NOT_FORWARDED = frozenset(
    getattr(signal, name)
    for name in (
        *("SIGKILL", "SIGSTOP"),  # no process can receive them
        *("SIGCHLD", "SIGPIPE", "SIGXCPU", "SIGXFSZ"),  # the kernel sends them because of this process itself
        *("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"),  # faults of this process
        *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"),  # a shell's job control stops both processes
    )
    if hasattr(signal, name)
)

FORWARDED = tuple(sorted(signal.valid_signals() - _NOT_FORWARDED))
"""
Signals that a process may send to the command, as `docker stop` does with the image's STOPSIGNAL.

Images use SIGWINCH (httpd), SIGQUIT (nginx), SIGINT (postgres) and SIGRTMIN+3 (systemd).
"""

IGNORED_BY_DEFAULT = frozenset({signal.SIGWINCH, signal.SIGURG})
"""Signals that do not end a process (signal(7)). They are only for the command."""

_SI_KERNEL = 0x80
"""
The si_code of signals from the kernel (asm-generic/siginfo.h).

Those in FROM_TERMINAL come from the terminal driver.
"""

_SIGINFO_BYTES = 128
"""Size of struct signalfd_siginfo, which begins with number, errno and code of four bytes each."""

_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Received(NamedTuple):
    """A signal. If `is_from_terminal` is True, the whole foreground group received the signal too."""

    number: int
    is_from_terminal: bool = False


class Signals:
    """The receiver of signals. It delivers each signal to the newest listener."""

    def __init__(self, mask: Sequence[int]) -> None:
        self.mask = mask
        """The signals that were blocked before this receiver existed. A command inherits this mask."""
        self._listeners: list[tuple[trio.MemorySendChannel[Received], bool]] = []

    @contextmanager
    def listen(self, *, for_command: bool = False) -> Iterator[trio.MemoryReceiveChannel[Received]]:
        """Receive signals until the block ends. Those in IGNORED_BY_DEFAULT arrive only if `for_command` is true."""
        send, receive = trio.open_memory_channel[Received](math.inf)
        self._listeners.append((send, for_command))
        try:
            yield receive
        finally:
            self._listeners.remove((send, for_command))

    def deliver(self, received: Received) -> None:
        if not self._listeners:
            return
        listener, is_for_command = self._listeners[-1]
        if is_for_command or received.number not in IGNORED_BY_DEFAULT:
            listener.send_nowait(received)


_CURRENT: trio.lowlevel.RunVar[Signals | None] = trio.lowlevel.RunVar("signals", default=None)


@asynccontextmanager
async def open_signals(numbers: Sequence[int]) -> AsyncIterator[Signals]:
    """
    Receive these signals until the block ends. A nested call yields the outer receiver, and ignores `numbers`.

    A signal that was ignored at the start, for example by nohup, stays ignored. Call this function in the main thread
    before other threads start, because threads inherit the blocked signals.
    """
    current = _CURRENT.get()
    if current is not None:
        yield current
        return
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    with _blocked(heeded) as mask:
        signals = Signals([number for number in mask if number not in heeded])
        token = _CURRENT.set(signals)
        try:
            async with trio.open_nursery() as nursery:
                # A thread that does not block the signals may receive a signal. Trio's handler then delivers that
                # signal.
                await nursery.start(_receive_from_trio, heeded, signals)
                await nursery.start(_receive_from_kernel, heeded, signals)
                yield signals
                nursery.cancel_scope.cancel()
        finally:
            _CURRENT.reset(token)


@contextmanager
def _blocked(numbers: Sequence[int]) -> Iterator[set[signal.Signals | int]]:
    """Block the signals if a signalfd can receive them. Yield the signals that were blocked before."""
    if not _has_signalfd():
        yield set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield set(before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _has_signalfd() -> bool:
    descriptor = _signalfd(())
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


async def _receive_from_kernel(
    numbers: Sequence[int], signals: Signals, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    descriptor = _signalfd(numbers)
    task_status.started()
    if descriptor is None:
        return
    try:
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            with suppress(BlockingIOError):
                data = os.read(descriptor, _SIGINFO_BYTES)
                number, code = (int.from_bytes(data[at : at + 4], sys.byteorder, signed=True) for at in (0, 8))
                signals.deliver(Received(number, number in FROM_TERMINAL and code == _SI_KERNEL))
    finally:
        os.close(descriptor)


async def _receive_from_trio(
    numbers: Sequence[int], signals: Signals, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*numbers) as receiver:
        task_status.started()
        async for number in receiver:
            signals.deliver(Received(number, number in FROM_TERMINAL and _is_foreground()))


def _is_foreground() -> bool:
    """Return whether a terminal sends its signals to our process group."""
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ else False
    except (OSError, ValueError):
        return False


def _signalfd(numbers: Sequence[int]) -> int | None:
    """Return a descriptor that receives these signals, or None if the system has no signalfd."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "signalfd"):
        return None
    signal_set = ctypes.create_string_buffer(128)  # the size of sigset_t in glibc and musl
    libc.sigemptyset(signal_set)
    for number in numbers:
        libc.sigaddset(signal_set, int(number))
    descriptor: int = libc.signalfd(-1, signal_set, _SFD_FLAGS)
    return descriptor if descriptor >= 0 else None
