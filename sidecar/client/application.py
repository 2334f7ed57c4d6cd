"""
Run the daemon beside one application: ports, secret, the application's environment, signals and exit status.

`exec` and `local` use this module. In a Pod, the webhook or the manifest does the same.
"""

import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio

from sidecar.addresses import format_address
from sidecar.client.command import Command, pass_signals_on
from sidecar.client.environment import Offer, client_environment
from sidecar.client.first_credentials import wait_for_credentials
from sidecar.client.signals import FORWARDED, Received, open_signals
from sidecar.config.settings import Config
from sidecar.console import complain
from sidecar.daemon.daemon import REAL_SOURCES, Daemon, Listeners, make_daemon
from sidecar.daemon.served_roles import ServedRoles
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.files import replace_secret_file
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Sources
from sidecar.role import Role
from sidecar.serving.authorization import new_secret, read_secret, start_secrets
from sidecar.serving.listen import listen
from sidecar.sts.regions import open_regions


async def until_signalled(body: Callable[[], Awaitable[int]]) -> int:
    """
    Run `body` and return its result, or 128 plus the number of the signal that ended it.

    While the body does not listen for signals, a signal cancels the body. The body then removes its directory with the
    secret.
    """
    status = 0

    async def end(received: trio.MemoryReceiveChannel[Received], scope: trio.CancelScope) -> None:
        nonlocal status
        status = 128 + (await received.receive()).number
        scope.cancel()

    async with open_signals(FORWARDED) as signals:
        with signals.listen() as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end, received, nursery.cancel_scope)
                status = await body()
                nursery.cancel_scope.cancel()
    return status


@contextmanager
def private_directory() -> Iterator[str]:
    """
    Create a directory for this user only, and remove it after the block.

    Raises ConfigurationError if the directory cannot be created.
    """
    try:
        directory = tempfile.TemporaryDirectory(prefix="irsa-sidecar-")
    except OSError as exc:
        raise _no_place(exc) from exc
    with directory as path:
        yield path


def _no_place(exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"TMPDIR is {os.environ.get('TMPDIR', 'not set')}: no temporary directory can store the secret "
        f"({exc.strerror or exc})",
        fix="Set TMPDIR to a directory with free space that this user may write",
        setting="TMPDIR",
    )


Wait = Callable[[ServedRoles], Awaitable[None]]
"""
The type of a function that waits until the body can start.

Raises SidecarError if the body must not start.
"""


async def with_daemon(
    config: Config,
    body: Callable[[Offer], Awaitable[int]],
    log: Logger,
    *,
    wait: Wait = wait_for_credentials,
    sources: Sources = REAL_SOURCES,
    on_start: Callable[[Daemon], None] = lambda _daemon: None,
) -> int:
    """
    Run the daemon with a secret, run `body` after `wait`, and return the result of `body`.

    The secret is in the configured file, or in a temporary one. `on_start` is called before the daemon runs.

    Raises ConfigurationError if a setting is invalid, or SidecarError with the reason if there are no credentials in
    time.
    """
    with private_directory() as directory:
        secret_file = keep_secret(config.authorization_token_file, directory)
        secret = read_secret(secret_file)
        # The secret comes first, because a client reads the secret's file as soon as the port is open.
        listeners = _listeners(config)
        url, value = _url(listeners.credentials, config.role), secret.value.decode("ascii")
        offer = Offer(url, value, secret_file, config.sts.region)
        roles = tuple(role._replace(authorization_token_file=secret_file) for role in config.roles)
        config = config._replace(roles=roles)
        metrics = Metrics()
        async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
            secrets = {secret_file: secret}
            running = make_daemon(config, sts.exchange, sources=sources, log=log, metrics=metrics, secrets=secrets)
            on_start(running)
            status, failure = 0, None
            async with trio.open_nursery() as nursery:
                await nursery.start(running.serve, listeners)
                try:
                    await wait(running.roles)
                except SidecarError as error:
                    failure = error
                else:
                    status = await body(offer)
                nursery.cancel_scope.cancel()  # the application has ended or will not start
    if failure is not None:
        raise failure
    return status


def _listeners(config: Config) -> Listeners:
    return Listeners(
        listen("IRSA_SIDECAR_LISTEN", config.listen),
        listen("IRSA_SIDECAR_ADMIN_LISTEN", config.admin_listen) if config.admin_listen else (),
    )


def keep_secret(path: str | None, directory: str) -> str:
    """
    Create a secret in the file at `path`, or in a new file in `directory`. Return the path.

    As in `run`, an existing file at `path` is changed only if it contains an older secret of irsa-sidecar.

    Raises ConfigurationError if the file cannot be used.
    """
    if path is not None:
        start_secrets([path])
        return path
    own = os.path.join(directory, "authorization-token")
    try:
        replace_secret_file(own, new_secret())
    except OSError as exc:
        raise _no_place(exc) from exc
    return own


async def run_application(command: list[str], offer: Offer, extra: Mapping[str, str] | None = None) -> int:
    """
    Run the command with the variables for `offer` in its environment.

    Return its exit status, or 128 plus the number of the signal that ended it. If the command cannot start, return 127
    or 126, as a shell does.
    """
    environment = client_environment(os.environ, offer) | dict(extra or {})
    async with open_signals(FORWARDED) as signals:
        with signals.listen(for_command=True) as received, trio.open_signal_receiver(signal.SIGCHLD) as exits:
            try:
                running = Command.start(command, environment, signals.mask)
            except FileNotFoundError:
                return _cannot_start(command, "the command does not exist", 127)
            except OSError as exc:
                return _cannot_start(command, exc.strerror or str(exc), 126)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_signals_on, received, running)
                status = await running.wait(exits)
                nursery.cancel_scope.cancel()
    return status


def _url(listeners: Sequence[socket.socket], role: Role) -> str:
    return f"http://{format_address(*listeners[0].getsockname()[:2])}{role.path}"


def _cannot_start(command: list[str], reason: str, status: int) -> int:
    complain(f"cannot start {command[0]!r}: {reason}")
    return status
