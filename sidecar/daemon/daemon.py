"""
The one tree of long-lived tasks: the roles' refreshers, the credentials listener and the admin listener.

Rule: no failure of one part ends another. An exception of a connection stays in its connection (server.py). Every
background task runs in `keep_running` (background.py), which logs what the task raises and starts it again.
"""

import gc
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from sidecar import __version__
from sidecar.addresses import WILDCARDS, format_address, is_address
from sidecar.background import RESTART_SECONDS, keep_running
from sidecar.clock import Clock, Instant
from sidecar.config.settings import Config, unknown_variables
from sidecar.daemon.authorization_files import AuthorizationFiles
from sidecar.daemon.roles_reload import Reload
from sidecar.daemon.served_roles import ServedRole, ServedRoles
from sidecar.files import FileVersion
from sidecar.log import Logger, default_format, make_logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Refresher
from sidecar.role import Role, secret_files
from sidecar.serving import admin, http, server
from sidecar.serving import container_credentials as endpoint
from sidecar.serving.audit import Audit
from sidecar.serving.authorization import Secret, start_secrets
from sidecar.serving.container_credentials import Answer, FindUid, Hold
from sidecar.serving.http import Request
from sidecar.serving.peer import Peers
from sidecar.store import Snapshot, Store
from sidecar.sts.client import Exchange
from sidecar.sts.regions import open_regions
from sidecar.sts.request import endpoint_of
from sidecar.sts.warnings import short_session_warning, warnings_about

if TYPE_CHECKING:
    from sidecar.daemon.credentials_file import CredentialsFile  # which, as imds.py, only those pay for who ask for it
    from sidecar.daemon.state_directory import StateDirectory

SETTLE_SECONDS = 60.0
"""Start-up runs without the garbage collector, but not for longer than this if no credentials come."""

IMDS_CONNECTIONS = 128
"""How many may be slow or held at once on the IMDS listener, which has few clients."""

REAL_CLOCK = Clock(time.time, trio.current_time)


class Listeners(NamedTuple):
    """What one daemon listens on: the container-credentials form, probes and metrics, IMDS. Empty where one is off."""

    credentials: Sequence[socket.socket] = ()
    admin: Sequence[socket.socket] = ()
    imds: Sequence[socket.socket] = ()


@dataclass
class Daemon:
    """Everything that one run shares. `serve` runs it; what starts it sets `stop` to end it in order."""

    roles: ServedRoles
    clock: Clock
    log: Logger
    metrics: Metrics
    peers: Peers
    dropped_lines: Callable[[], int]
    stop: trio.Event
    region: str | None = None
    credentials_file: "CredentialsFile | None" = None
    state: "StateDirectory | None" = None

    @property
    def role(self) -> ServedRole:
        """The first: the only one, unless a file names several."""
        return next(iter(self.roles))

    async def serve(
        self,
        listeners: Listeners,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until `stop` is set and the answers under way have ended. Starts when the listeners accept."""
        with self.peers:
            async with trio.open_nursery() as background:
                background.start_soon(self.keep, "roles", self.roles.run)
                if self.credentials_file is not None:
                    background.start_soon(self.keep, "credentials_file", self.credentials_file.run)
                if self.state is not None:
                    background.start_soon(self.keep, "state", partial(self.state.run, self.roles))
                async with trio.open_nursery() as servers:
                    await servers.start(self._serve_credentials, listeners.credentials, background)
                    if listeners.imds:
                        await servers.start(self._serve_imds, listeners.imds, background)
                    await servers.start(self._serve_admin, listeners.admin)
                    task_status.started()
                # Not before: the servers' scope is within this one, and so are the answers under way.
                background.cancel_scope.cancel()

    async def keep(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run a background task so that nothing it raises ends the daemon. `name` is for the log and the metric."""

        def report(exc: Exception) -> None:
            self.metrics.count_task_failure(name)
            self.log.critical("background_task_failed", task=name, exc=exc, restart_in_seconds=RESTART_SECONDS)

        await keep_running(task, report)

    async def _serve_credentials(
        self, listeners: Sequence[socket.socket], background: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        roles, hosts = self.roles, _hosts(listeners)

        def decide(request: Request, now: Instant, uid: FindUid) -> Answer:
            return endpoint.answer(request, roles.routes, hosts, now, uid)

        await self._hand_out(
            listeners,
            decide,
            background,
            parse=http.parse,
            requests=self.metrics.requests,
            log=self.log,
            connections=server.connection_limit(),
            task_status=task_status,
        )

    async def _serve_imds(
        self, listeners: Sequence[socket.socket], background: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        from sidecar.serving import imds  # noqa: PLC0415  for those who ask for it

        key, hosts = os.urandom(imds.KEY_BYTES), _hosts(listeners)

        def decide(request: Request, now: Instant, uid: FindUid) -> Answer:
            return imds.answer(request, self.roles.main, self.region, now, uid, key=key, hosts=hosts)

        await self._hand_out(
            listeners,
            decide,
            background,
            parse=imds.parse,
            requests=self.metrics.imds_requests,
            log=self.log.bind(form="imds"),
            connections=server.connection_limit(IMDS_CONNECTIONS),
            task_status=task_status,
        )

    async def _hand_out(
        self,
        listeners: Sequence[socket.socket],
        decide: Callable[[Request, Instant, FindUid], Answer],
        background: trio.Nursery,
        *,
        parse: http.Parse,
        requests: dict[int, int],
        log: Logger,
        connections: int,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Serve credentials in one form: early requests held, answers counted, and each hand-out told to `log`."""
        audit = Audit(log, lambda: background.start_soon(self.keep, "audit", partial(_flush_soon, audit)))
        roles, peers = self.roles, self.peers

        def respond(request: Request, now: Instant, sock: socket.socket) -> Answer:
            answer = decide(request, now, lambda: peers.uid(sock, now.monotonic))
            # A held answer is not sent, unless there is no room: then it is summed up.
            if answer.hold is Hold.USER or answer.hold is Hold.SECRET or not audit.takes_line(answer, now.monotonic):
                return answer
            is_denial = answer.snapshot is None
            return answer._replace(asker=peers.asker(sock, now.monotonic, is_denial=is_denial))

        async def wait(held: Answer) -> None:
            if held.hold is Hold.USER:
                await trio.sleep(peers.pause_seconds(self.clock.monotonic()))
            elif held.role is not None:
                served = roles[held.role]
                await (served.check_secret() if held.hold is Hold.SECRET else served.store.wait_for_next())

        def observe(answer: Answer, peer: Any) -> None:
            requests[answer.status] = requests.get(answer.status, 0) + 1
            audit.record(answer, peer)

        try:
            await server.serve(
                listeners,
                respond,
                now=self.clock.now,
                observe=observe,
                report=self._report,
                wait=wait,
                parse=parse,
                limits=server.Limits(connections=connections),
                stop=self.stop,
                task_status=task_status,
            )
        finally:
            self._flush(audit)

    async def _serve_admin(self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None]) -> None:
        def respond(request: Request, now: Instant, _sock: socket.socket) -> Answer:
            states = [served.state(now) for served in self.roles]
            return admin.answer(request, states, self.metrics, self.dropped_lines(), now)

        await server.serve(
            listeners,
            respond,
            now=self.clock.now,
            observe=lambda _answer, _peer: None,
            report=self._report,
            limits=server.Limits(connections=64),
            stop=self.stop,
            task_status=task_status,
        )

    def _flush(self, audit: Audit) -> None:
        try:
            audit.flush()
        except Exception as exc:  # noqa: BLE001  the listener ends in order, whatever becomes of its last lines
            self._report(exc)

    def _report(self, exc: Exception) -> None:
        self.log.error("request_failed", exc=exc)


def make_daemon(
    config: Config,
    exchange_with: Exchange,
    *,
    clock: Clock,
    log: Logger,
    metrics: Metrics | None = None,
    dropped_lines: Callable[[], int] = lambda: 0,
    jitter: Callable[[], float] = random.random,
    secrets: Mapping[str, Secret] | None = None,
) -> Daemon:
    """
    Put the parts together. Raises ConfigurationError.

    `secrets` are those of the configured roles by path, if they have been read. Without them they are read here.
    """
    counters, peers = metrics or Metrics(), Peers()
    authorization_files = AuthorizationFiles(
        start_secrets(secret_files(config.roles), config.authorization_mode) if secrets is None else secrets,
        log,
        config.authorization_mode,
    )

    def make(role: Role, before: Snapshot | None) -> ServedRole:
        if role.allow_uids is not None:
            if not peers.can_tell:
                log.warning("users_unknown", role=role.name, reason=_USERS_UNKNOWN)
            if config.credentials_file is not None:
                log.warning("role_left_out", role=role.name, path=config.credentials_file, reason=_LEFT_OUT)
        if sentence := short_session_warning(role):
            log.warning("setting_doubtful", role=role.name, reason=sentence)
        refresher = Refresher(
            role,
            exchange_with,
            Store(endpoint.credentials_response, before),
            clock=clock,
            jitter=jitter,
            log=log,
            metrics=counters,
        )
        path = role.authorization_token_file
        return ServedRole(refresher, authorization_files[path] if path else None, clock)

    roles = ServedRoles(config.roles, make, authorization_files, log)
    daemon = Daemon(roles, clock, log, counters, peers, dropped_lines, trio.Event(), config.sts.region)
    if config.credentials_file is not None:
        from sidecar.daemon.credentials_file import CredentialsFile  # noqa: PLC0415  for those who ask for it

        daemon.credentials_file = CredentialsFile(
            config.credentials_file, roles, clock=clock, log=log, metrics=counters
        )
    if config.state_dir is not None:
        daemon.state = _restored_state(config, daemon)
    return daemon


def _restored_state(config: Config, daemon: Daemon) -> "StateDirectory | None":
    """Put what an earlier process kept into service. Raises ConfigurationError."""
    from sidecar.daemon import state_directory  # noqa: PLC0415  only for those who set it

    path = state_directory.open_directory(config.state_dir or "", allow_disk=config.state_allow_disk)
    boot = state_directory.this_boot()
    if boot is None:
        daemon.log.warning("state_unavailable", path=path, reason="the kernel has no boot id or no clock since boot")
        return None
    state = state_directory.StateDirectory(
        path, config.sts, clock=daemon.clock, boot=boot, log=daemon.log, metrics=daemon.metrics
    )
    state.restore(daemon.roles)
    return state


_USERS_UNKNOWN = (
    "this system does not say which user asks (neither NETLINK_SOCK_DIAG nor /proc/net/tcp does), so everybody is "
    "refused: give the role an authorization_token_file in place of its allow_uids, or run where one of them is there"
)

_LEFT_OUT = "the role has allow_uids, and IRSA_SIDECAR_CREDENTIALS_FILE does not know who reads it"

ReadRoles = Callable[[], Sequence[Role]]


def run(
    config: Config,
    listeners: Listeners,
    read_again: ReadRoles,
    as_read: FileVersion | None,
    secrets: Mapping[str, Secret],
) -> int:
    """
    `irsa-sidecar run` once its listeners are bound. Returns the exit status. Raises ConfigurationError.

    `read_again` reads the roles of `config.config_file` again; `as_read` is the version of that file before they were
    read. `secrets` are those of the configured roles, by path.
    """
    trio.run(_run, config, listeners, read_again, as_read, secrets)
    return 0


async def _run(
    config: Config,
    listeners: Listeners,
    read_again: ReadRoles,
    as_read: FileVersion | None,
    secrets: Mapping[str, Secret],
) -> None:
    log, writer = make_logger(config.log_format or default_format(), config.log_level)
    for sentence in unknown_variables(os.environ):
        log.warning("setting_unknown", reason=sentence)
    for sentence in warnings_about(config.roles, config.sts):
        log.warning("setting_doubtful", reason=sentence)
    metrics = Metrics()
    async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
        daemon = make_daemon(
            config,
            sts.exchange,
            clock=REAL_CLOCK,
            log=log,
            metrics=metrics,
            dropped_lines=lambda: writer.dropped,
            secrets=secrets,
        )
        reload = Reload(config.config_file, read_again, daemon.roles, as_read=as_read, log=log, metrics=metrics)
        with (
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as stops,
            trio.open_signal_receiver(signal.SIGHUP) as hangups,
        ):
            async with trio.open_nursery() as background:
                for name, task in (
                    ("stop", partial(_stop_on_signal, daemon, config.drain_seconds, stops)),
                    ("reload_on_signal", partial(_reload_on_signal, reload, hangups)),
                    ("reload", reload.run),
                    ("settle", partial(_settle, daemon)),
                ):
                    background.start_soon(daemon.keep, name, task)
                async with trio.open_nursery() as serving:
                    await serving.start(daemon.serve, listeners)
                    _log_start(daemon, listeners, config)
                background.cancel_scope.cancel()
    log.info("stopped")


def _log_start(daemon: Daemon, listeners: Listeners, config: Config) -> None:
    origin = f"http://{format_address(*listeners.credentials[0].getsockname()[:2])}"
    sts_url = endpoint_of(config.sts)
    for served in daemon.roles:
        role = served.refresher.role
        daemon.log.info("started", version=__version__, role_arn=role.final_arn, sts=sts_url, url=origin + role.path)
    if listeners.imds:
        _tell_of_imds(daemon.roles.main, listeners.imds, daemon.log)


def _tell_of_imds(served: ServedRole, listeners: Sequence[socket.socket], log: Logger) -> None:
    role, url = served.refresher.role, f"http://{format_address(*listeners[0].getsockname()[:2])}/"
    log.info("imds_started", role=role.name, role_arn=role.final_arn, url=url)
    if role.authorization_token_file is not None:
        log.warning(
            "setting_doubtful",
            reason=f"IRSA_SIDECAR_IMDS_LISTEN gives role {role.name!r} to all that share the Pod's loopback, without "
            f"the secret in {role.authorization_token_file}: turn it off unless all of them may have the role.",
        )


async def _stop_on_signal(daemon: Daemon, drain_seconds: float, signals: AsyncIterator[int]) -> None:
    """The first signal starts the drain. Its end, or a second signal, starts the orderly stop."""
    number = await anext(signals)
    with suppress(Exception):  # out of memory, say: a log that fails must not lose the signal
        daemon.log.info("stopping", signal=signal.Signals(number).name, drain_seconds=drain_seconds)
    with trio.move_on_after(drain_seconds):
        await anext(signals)
    daemon.stop.set()
    await trio.sleep_forever()


async def _reload_on_signal(reload: Reload, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        await reload.now()


async def _settle(daemon: Daemon) -> None:
    """
    What start-up made lives as long as the process: keep the collector from ever walking it again.

    It is not collected first: that would take 26 ms between the first credentials and the clients that wait for them.
    """
    with trio.move_on_after(SETTLE_SECONDS):
        await daemon.roles.first_credentials()
    gc.freeze()
    gc.enable()


async def _flush_soon(audit: Audit) -> None:
    await trio.sleep(1.0)
    audit.flush()


class _AnyAddress(frozenset[bytes]):
    """
    These names and any IP address, for a listener on every interface.

    What a Host check guards against is a name that an attacker made resolve to us; an address is none.
    """

    def __contains__(self, host: object) -> bool:
        return super().__contains__(host) or (isinstance(host, bytes) and is_address(host.decode("latin-1")))


def _hosts(listeners: Sequence[socket.socket]) -> frozenset[bytes]:
    """How clients may name these listeners in a Host header: as loopback, or by the address itself."""
    bound = {listener.getsockname()[0] for listener in listeners}
    names = endpoint.LOOPBACK_HOSTS | {f"[{host}]".encode() if ":" in host else host.encode() for host in bound}
    return _AnyAddress(names) if bound & WILDCARDS else names
