"""
Run the daemon as a process, with its log, its signals and an orderly stop.

Rule: the first SIGTERM or SIGINT starts the drain, during which the daemon still serves. The end of the drain, or a
second signal, starts the orderly stop. SIGHUP reloads the roles.
"""

import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import trio

from sidecar import __version__
from sidecar.addresses import format_address
from sidecar.config.settings import Config, unknown_variables
from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.daemon.served_roles import ServedRole
from sidecar.files import FileVersion
from sidecar.log import Logger, default_format, make_logger
from sidecar.metrics import Metrics
from sidecar.role import Role
from sidecar.serving.authorization import Secret
from sidecar.sts.regions import open_regions
from sidecar.sts.request import endpoint_of
from sidecar.sts.warnings import warnings_about

SETTLE_SECONDS = 60.0
"""Maximum time from the start until the garbage collector runs, if no credentials arrive."""

ReadRoles = Callable[[], Sequence[Role]]


class RolesFile(NamedTuple):
    """The roles file. `read` reads it again. `as_read` is its version from before the current roles were read."""

    read: ReadRoles
    as_read: FileVersion | None


def run(config: Config, listeners: Listeners, roles_file: RolesFile, secrets: Mapping[str, Secret]) -> int:
    """
    Run `irsa-sidecar run` on its bound listeners. Return the exit status.

    `secrets` are the secrets of the configured roles, by path.

    Raises ConfigurationError if a setting or a file is invalid.
    """
    trio.run(_run, config, listeners, roles_file, secrets)
    return 0


async def _run(config: Config, listeners: Listeners, roles_file: RolesFile, secrets: Mapping[str, Secret]) -> None:
    log, writer = make_logger(config.log_format or default_format(), config.log_level)
    _log_warnings(config, log)
    metrics = Metrics()
    async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
        daemon = make_daemon(config, sts.exchange, log=log, metrics=metrics, secrets=secrets)
        daemon.dropped_lines = lambda: writer.dropped
        with (
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as stops,
            trio.open_signal_receiver(signal.SIGHUP) as hangups,
        ):
            async with trio.open_nursery() as background:
                background.start_soon(daemon.keep, "stop", partial(_stop_on_signal, daemon, config, stops))
                background.start_soon(daemon.keep, "settle", partial(_settle, daemon))
                for name, task in _reload_tasks(daemon, config, roles_file, hangups):
                    background.start_soon(daemon.keep, name, task)
                async with trio.open_nursery() as serving:
                    await serving.start(daemon.serve, listeners)
                    _log_start(daemon, listeners, config)
                background.cancel_scope.cancel()
    log.info("stopped")


def _log_warnings(config: Config, log: Logger) -> None:
    for unknown in unknown_variables(os.environ):
        log.warning("unknown_setting_ignored", reason=str(unknown))
    for suspicious in warnings_about(config.roles, config.sts):
        log.warning("suspicious_setting_found", reason=str(suspicious))


def _reload_tasks(
    daemon: Daemon, config: Config, roles_file: RolesFile, hangups: AsyncIterator[int]
) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Yield the tasks that reload the roles when their file changes, and on SIGHUP. Without a file, only log SIGHUP."""
    if config.config_file is None:
        yield "reload_on_signal", partial(_ignore_reload, daemon.log, hangups)
        return
    from sidecar.daemon.roles_reload import Reload  # noqa: PLC0415  only if a setting turns it on

    reload = Reload(
        config.config_file,
        roles_file.read,
        daemon.roles,
        as_read=roles_file.as_read,
        log=daemon.log,
        metrics=daemon.metrics,
    )
    yield "reload", reload.run
    yield "reload_on_signal", partial(_reload_on_signal, reload.now, hangups)


async def _ignore_reload(log: Logger, hangups: AsyncIterator[int]) -> None:
    async for _ in hangups:
        log.info("reload_ignored", reason="IRSA_SIDECAR_CONFIG names no file, and variables do not change")


async def _reload_on_signal(reload: Callable[[], Awaitable[None]], hangups: AsyncIterator[int]) -> None:
    async for _ in hangups:
        await reload()


def _log_start(daemon: Daemon, listeners: Listeners, config: Config) -> None:
    origin = f"http://{format_address(*listeners.credentials[0].getsockname()[:2])}"
    sts_url = endpoint_of(config.sts)
    for served in daemon.roles:
        role = served.refresher.role
        daemon.log.info("started", version=__version__, role_arn=role.final_arn, sts=sts_url, url=origin + role.path)
    if listeners.imds:
        _log_imds_start(daemon.roles.main, listeners.imds, daemon.log)


def _log_imds_start(served: ServedRole, listeners: Sequence[socket.socket], log: Logger) -> None:
    role, url = served.refresher.role, f"http://{format_address(*listeners[0].getsockname()[:2])}/"
    log.info("imds_started", role_name=role.name, role_arn=role.final_arn, url=url)
    if role.authorization_token_file is not None:
        log.warning(
            "suspicious_setting_found",
            reason=f"IRSA_SIDECAR_IMDS_LISTEN serves role {role.name!r} to every container of the Pod, without the "
            f"secret in {role.authorization_token_file}. Unset this setting unless every container may have the role.",
        )


async def _stop_on_signal(daemon: Daemon, config: Config, signals: AsyncIterator[int]) -> None:
    """Start the drain on the first signal. Start the orderly stop at the end of the drain, or on a second signal."""
    number = await anext(signals)
    with suppress(Exception):  # a log error, for example without free memory, must not lose the signal
        daemon.log.info("stopping", signal=signal.Signals(number).name, drain_seconds=config.drain_seconds)
    with trio.move_on_after(config.drain_seconds):
        await anext(signals)
    daemon.stop.set()
    await trio.sleep_forever()


async def _settle(daemon: Daemon) -> None:
    """
    Enable the garbage collector after the first credentials, and exclude the objects of the start.

    These objects remain until the process ends, so the collector need not examine them. No collection runs before,
    because it would delay the clients that wait for the first credentials by 26 ms.
    """
    with trio.move_on_after(SETTLE_SECONDS):
        await daemon.roles.first_credentials()
    gc.freeze()
    gc.enable()
