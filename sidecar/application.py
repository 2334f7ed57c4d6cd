"""
The daemon around an application: its own ports and secret, the application's environment, signals and exit status.

Used by `exec` and `local`; in a Pod the webhook or the manifest does this part.
"""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio

from sidecar.authorization import new_secret, read_secret, write_secret
from sidecar.client_environment import Offer, client_environment
from sidecar.config import Config
from sidecar.daemon import REAL_CLOCK, Listeners, make_daemon
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.listen import format_address, listen
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.remarks import remark
from sidecar.role import Role
from sidecar.secret_file import replace_secret_file
from sidecar.sts_regions import open_regions

FIRST_CREDENTIALS_SECONDS = 15.0
"""A command is not started without credentials: one clear message beats its SDK's guess at what is wrong."""

_FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT})
"""What a terminal sends to the whole foreground group, the command included: passing it on would double it."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

_PASSED_ON = (*_ENDING, signal.SIGUSR1, signal.SIGUSR2)


async def until_signalled(body: Callable[[], Awaitable[int]]) -> int:
    """
    Run `body`; its result, or 128 and the signal that ended it while nothing in it listened for signals.

    So that no signal leaves a directory with a secret behind, whenever it comes.
    """
    status = 0

    async def end(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        nonlocal status
        status = 128 + await anext(signals)
        scope.cancel()

    with trio.open_signal_receiver(*_ENDING) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, signals, nursery.cancel_scope)
            status = await body()
            nursery.cancel_scope.cancel()
    return status


@contextmanager
def private_directory() -> Iterator[str]:
    """A directory that only this user can look into, gone in the end. Raises ConfigurationError if none can be made."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="irsa-sidecar-")
    except OSError as exc:
        raise _no_place(exc) from exc
    with directory as path:
        yield path


def _no_place(exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"TMPDIR is {os.environ.get('TMPDIR', 'not set')}, and no secret can be kept there or in the usual places "
        f"({exc.strerror or exc}): set TMPDIR to a directory with room that this user may write."
    )


async def with_daemon(
    config: Config, body: Callable[[Offer], Awaitable[int]], log: Logger, *, needs_credentials: bool = True
) -> int:
    """
    Run the daemon on the configured ports with a new secret, and `body` once there are credentials; its result.

    The secret is written to the configured file, or to one that ends with us.
    Raises ConfigurationError, or SidecarError with the reason when there are no credentials in time. Without
    `needs_credentials` the body also starts when the first attempt has failed, to see what an SDK makes of it.
    """
    with private_directory() as directory:
        secret = new_secret()
        secret_file = keep_secret(secret, config.authorization_token_file, directory)
        listeners = _listeners(config)  # after the secret, because a client that finds the port open reads the file
        offer = Offer(_url(listeners.credentials, config.role), secret, secret_file, config.sts.region)
        roles = tuple(role._replace(authorization_token_file=secret_file) for role in config.roles)
        config = config._replace(roles=roles)
        metrics = Metrics()
        async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
            secrets = {secret_file: read_secret(secret_file)}
            running = make_daemon(config, sts.exchange, clock=REAL_CLOCK, log=log, metrics=metrics, secrets=secrets)
            status = None
            async with trio.open_nursery() as nursery:
                await nursery.start(running.serve, listeners)
                ready = running.roles.first_credentials if needs_credentials else running.role.first_attempt.wait
                with trio.move_on_after(FIRST_CREDENTIALS_SECONDS) as patience:
                    await ready()
                if not patience.cancelled_caught:
                    status = await body(offer)
                running.stop.set()
    if status is None:
        raise SidecarError(f"no credentials within {FIRST_CREDENTIALS_SECONDS:.0f} s: {running.role.failure}")
    return status


def _listeners(config: Config) -> Listeners:
    return Listeners(
        listen("IRSA_SIDECAR_LISTEN", config.listen),
        listen("IRSA_SIDECAR_ADMIN_LISTEN", config.admin_listen) if config.admin_listen else (),
    )


def keep_secret(secret: str, path: str | None, directory: str) -> str:
    """Write it to `path` if one is configured, or to a file of ours. Returns which. Raises ConfigurationError."""
    if path is not None:
        write_secret(path, secret)
        return path
    own = os.path.join(directory, "authorization-token")
    try:
        replace_secret_file(own, secret)
    except OSError as exc:
        raise _no_place(exc) from exc
    return own


async def run_application(command: list[str], offer: Offer, extra: Mapping[str, str] | None = None) -> int:
    """Run the command with the offer in its environment; its exit status, or 128 and the signal that ended it."""
    environment = client_environment(os.environ, offer) | dict(extra or {})
    with trio.open_signal_receiver(*_PASSED_ON) as signals:
        try:
            process = await trio.lowlevel.open_process(command, env=environment)
        except FileNotFoundError:
            return _cannot_start(command, "there is no such command", 127)
        except OSError as exc:
            return _cannot_start(command, exc.strerror or str(exc), 126)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, signals, process)
            status = await process.wait()
            nursery.cancel_scope.cancel()
    return status if status >= 0 else 128 - status


async def _pass_on(signals: AsyncIterator[int], process: trio.Process) -> None:
    async for number in signals:
        if not (number in _FROM_TERMINAL and _is_foreground()):
            process.send_signal(number)


def _url(listeners: Sequence[socket.socket], role: Role) -> str:
    return f"http://{format_address(*listeners[0].getsockname()[:2])}{role.path}"


def _is_foreground() -> bool:
    """Whether a terminal sends its signals to our process group."""
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ else False
    except (OSError, ValueError):
        return False


def _cannot_start(command: list[str], why: str, status: int) -> int:
    remark(f"cannot start {command[0]!r}: {why}")
    return status
