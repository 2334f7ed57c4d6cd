"""
Build the daemon and run its tree of long-lived tasks: the refreshers of the roles, and the listeners.

Rule: no failure of one part ends another part. In the server, an exception ends only its own connection
(serving/server.py). Every background task runs in `keep_running` (background.py), which logs the task's exceptions and
starts the task again.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from sidecar.addresses import is_loopback
from sidecar.background import RESTART_SECONDS, keep_running
from sidecar.clock import Clock, Instant
from sidecar.config.settings import Config
from sidecar.daemon.authorization_files import AuthorizationFiles
from sidecar.daemon.served_roles import ServedRole, ServedRoles
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Refresher, Sources
from sidecar.role import Role, secret_files
from sidecar.serving import admin, http, server
from sidecar.serving import container_credentials as endpoint
from sidecar.serving.audit import Audit, Usage
from sidecar.serving.authorization import Secret, start_secrets
from sidecar.serving.connection import Connection
from sidecar.serving.container_credentials import FindUid, Hold, Response
from sidecar.serving.hosts import Hosts, hosts_of
from sidecar.serving.http import Request
from sidecar.serving.limits import Limits, connection_limit
from sidecar.serving.peer import Peers
from sidecar.store import Snapshot, Store
from sidecar.sts.client import Exchange
from sidecar.sts.warnings import short_session_warning

if TYPE_CHECKING:  # like imds.py, these modules are imported only if a setting enables them
    from sidecar.daemon.credentials_file import CredentialsFile
    from sidecar.daemon.state_directory import StateDirectory

IMDS_CONNECTIONS = 128
"""Maximum number of slow or held connections on the IMDS listener, which has few clients."""

ADMIN_CONNECTIONS = 64
"""Maximum number of slow connections on the admin listener."""

FLUSH_SECONDS = 1.0
"""Interval at which the audit log reports the requests that it only counted."""

REAL_CLOCK = Clock(time.time, trio.current_time)


REAL_SOURCES = Sources(REAL_CLOCK)
"""The real clock and randomness, for every process except tests."""


class Listeners(NamedTuple):
    """The sockets of one daemon, by endpoint. A disabled listener has no sockets."""

    credentials: Sequence[socket.socket] = ()
    admin: Sequence[socket.socket] = ()
    imds: Sequence[socket.socket] = ()


@dataclass
class Daemon:
    """The parts of one daemon. `serve` runs it until `stop` is set."""

    roles: ServedRoles
    clock: Clock
    log: Logger
    metrics: Metrics
    peers: Peers
    stop: trio.Event
    started_at: float
    """The time of the start on the monotonic clock."""
    region: str | None = None
    dropped_lines: Callable[[], int] = lambda: 0
    credentials_file: "CredentialsFile | None" = None
    state: "StateDirectory | None" = None
    has_page: bool = True
    """True if the admin listener serves the page. It serves /status in any case."""
    usage: dict[str, Usage] = field(default_factory=dict)
    """The use of each role, by the role's name."""

    @property
    def role(self) -> ServedRole:
        """The first role, which is the only one unless a file defines several."""
        return next(iter(self.roles))

    async def serve(
        self,
        listeners: Listeners,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stop` is set and the last responses are sent. Report the start when all listeners accept."""
        with self.peers:
            async with trio.open_nursery() as background:
                for name, task in self._background_tasks():
                    background.start_soon(self.keep, name, task)
                async with trio.open_nursery() as servers:
                    await servers.start(self._serve_credentials, listeners.credentials, background)
                    if listeners.imds:
                        await servers.start(self._serve_imds, listeners.imds, background)
                    await servers.start(self._serve_admin, listeners.admin)
                    task_status.started()
                # An earlier cancellation would also cancel the servers and their last responses inside this scope.
                background.cancel_scope.cancel()

    def _background_tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = [("roles", self.roles.run)]
        if self.credentials_file is not None:
            tasks.append(("credentials_file", self.credentials_file.run))
        if self.state is not None:
            tasks.append(("state", partial(self.state.run, self.roles)))
        return tasks

    async def keep(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run a background task whose exceptions must not end the daemon. The log and a metric contain `name`."""

        def report(exc: Exception) -> None:
            self.metrics.count_task_failure(name)
            self.log.critical("background_task_failed", task=name, exc=exc, restart_in_seconds=RESTART_SECONDS)

        await keep_running(task, report)

    async def _serve_credentials(
        self, listeners: Sequence[socket.socket], background: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        roles, hosts = self.roles, _hosts(listeners)

        def decide(request: Request, now: Instant, uid: FindUid) -> Response:
            return endpoint.respond(request, roles.routes, hosts, now, uid)

        handler = CredentialsHandler(self, background, Form(http.parse, decide, self.metrics.requests, self.log))
        limits = Limits(connections=connection_limit())
        await self._serve(listeners, handler, limits, task_status)

    async def _serve_imds(
        self, listeners: Sequence[socket.socket], background: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        from sidecar.serving import imds  # noqa: PLC0415  only if a setting turns it on

        roles, instance = self.roles, imds.Instance(os.urandom(imds.KEY_BYTES), _hosts(listeners), self.region)

        def decide(request: Request, now: Instant, uid: FindUid) -> Response:
            return imds.respond(request, roles.main, instance, now, uid)

        form = Form(imds.parse, decide, self.metrics.imds_requests, self.log.bind(endpoint="imds"))
        handler = CredentialsHandler(self, background, form)
        limits = Limits(connections=connection_limit(IMDS_CONNECTIONS))
        await self._serve(listeners, handler, limits, task_status)

    async def _serve(
        self,
        listeners: Sequence[socket.socket],
        handler: "CredentialsHandler",
        limits: Limits,
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            await server.serve(listeners, handler, limits=limits, stop=self.stop, task_status=task_status)
        finally:
            handler.flush()

    async def _serve_admin(self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None]) -> None:
        limits = Limits(connections=ADMIN_CONNECTIONS)
        await server.serve(
            listeners,
            AdminHandler(self, _admin_hosts(listeners)),
            limits=limits,
            stop=self.stop,
            task_status=task_status,
        )

    def report(self, exc: Exception) -> None:
        self.log.error("request_failed", exc=exc)


class Form(NamedTuple):
    """One format for credentials: its HTTP grammar, decision function, response counts by status, and log."""

    parse: http.Parse
    decide: Callable[[Request, Instant, FindUid], Response]
    counts: dict[int, int]
    log: Logger


class CredentialsHandler:
    """
    The behaviour of a listener that serves credentials in one format (listener.Handler).

    It holds early requests, counts the responses, and logs which clients got credentials.
    """

    __slots__ = ("_audit", "_background", "_counts", "_daemon", "_decide", "_peers", "now", "parse", "report")

    def __init__(self, daemon: Daemon, background: trio.Nursery, form: Form) -> None:
        self._daemon = daemon
        self._background = background
        self.parse = form.parse
        self._decide = form.decide
        self._counts = form.counts
        self._audit = Audit(form.log, self._wake, daemon.usage)
        self._peers = daemon.peers
        self.now = daemon.clock.now
        self.report = daemon.report

    def respond(self, request: Request, now: Instant, sock: Connection) -> Response:
        response = self._decide(request, now, partial(self._peers.uid, sock, now.monotonic))
        # A held response is sent only if no more requests can be held. The audit log then counts the response.
        is_held = response.hold is Hold.USER or response.hold is Hold.SECRET
        if is_held or not self._audit.reserve_line(response, now.monotonic):
            return response
        return response._replace(peer=self._peers.peer(sock, now.monotonic, is_denial=response.snapshot is None))

    async def wait(self, response: Response) -> None:
        if response.hold is Hold.USER:
            await trio.sleep(self._peers.pause_seconds(self._daemon.clock.monotonic()))
        elif response.role_name is not None:
            served = self._daemon.roles[response.role_name]
            await (served.check_secret() if response.hold is Hold.SECRET else served.store.wait_for_next())

    def observe(self, response: Response, address: Any) -> None:
        self._counts[response.status] = self._counts.get(response.status, 0) + 1
        self._audit.record(response, address)

    def flush(self) -> None:
        """Log the requests that were only counted. If this fails, the listener still stops in order."""
        try:
            self._audit.flush()
        except Exception as exc:  # noqa: BLE001  whatever it is, the listener must stop in order
            self.report(exc)

    def _wake(self) -> None:
        self._background.start_soon(self._daemon.keep, "audit", self._flush_later)

    async def _flush_later(self) -> None:
        await trio.sleep(FLUSH_SECONDS)
        self._audit.flush()


class AdminHandler:
    """
    The behaviour of the admin listener (listener.Handler). It neither holds nor counts requests.

    `hosts` are the hosts in requests for the status, or None for every host.
    """

    parse = staticmethod(http.parse)

    def __init__(self, daemon: Daemon, hosts: Hosts | None) -> None:
        self._daemon = daemon
        self._hosts = hosts
        self.now = daemon.clock.now
        self.report = daemon.report

    def respond(self, request: Request, now: Instant, _sock: Connection) -> Response:
        if request.path == b"/status" or (request.path == b"/" and self._daemon.has_page):
            from sidecar.daemon import status  # noqa: PLC0415  most Pods get no such request

            return status.respond(request, self._daemon, now, self._hosts)
        states = [served.state(now) for served in self._daemon.roles]
        return admin.respond(request, states, self._daemon.metrics, self._daemon.dropped_lines(), now)

    async def wait(self, _response: Response) -> None:
        pass

    def observe(self, _response: Response, _address: Any) -> None:
        pass


def _hosts(listeners: Sequence[socket.socket]) -> Hosts:
    return hosts_of(listener.getsockname()[0] for listener in listeners)


def _admin_hosts(listeners: Sequence[socket.socket]) -> Hosts | None:
    """Return the hosts on loopback, and None elsewhere, because the kubelet and Prometheus use other names."""
    is_local = all(is_loopback(listener.getsockname()[0]) for listener in listeners)
    return _hosts(listeners) if is_local else None


def make_daemon(
    config: Config,
    exchange_with: Exchange,
    *,
    sources: Sources = REAL_SOURCES,
    log: Logger,
    metrics: Metrics | None = None,
    secrets: Mapping[str, Secret] | None = None,
) -> Daemon:
    """
    Build a daemon.

    Raises ConfigurationError if a setting or file is invalid.

    `secrets` are the secrets of the configured roles, by path. Without them, this function creates or reads them.
    """
    clock, counters, peers = sources.clock, metrics or Metrics(), Peers()
    authorization_files = AuthorizationFiles(
        start_secrets(secret_files(config.roles), config.authorization_mode) if secrets is None else secrets,
        log,
        config.authorization_mode,
    )

    def make(role: Role, before: Snapshot | None) -> ServedRole:
        _log_warnings(role, config, peers, log)
        store = Store(endpoint.credentials_response, before)
        refresher = Refresher(role, exchange_with, store, sources=sources, log=log, metrics=counters)
        path = role.authorization_token_file
        return ServedRole(refresher, authorization_files[path] if path else None, clock)

    roles = ServedRoles(config.roles, make, authorization_files, log)
    daemon = Daemon(roles, clock, log, counters, peers, trio.Event(), clock.monotonic(), config.sts.region)
    daemon.has_page = config.admin_page
    if config.credentials_file is not None:
        from sidecar.daemon.credentials_file import CredentialsFile  # noqa: PLC0415  only if a setting turns it on

        daemon.credentials_file = CredentialsFile(
            config.credentials_file, roles, clock=clock, log=log, metrics=counters
        )
    if config.state_dir is not None:
        daemon.state = _restored_state(config, daemon)
    return daemon


def _log_warnings(role: Role, config: Config, peers: Peers, log: Logger) -> None:
    if role.allow_uids is not None:
        if not peers.can_look_up:
            log.warning("uid_lookup_unavailable", role_name=role.name, reason=_USERS_UNKNOWN)
        if config.credentials_file is not None:
            log.warning("role_excluded", role_name=role.name, path=config.credentials_file, reason=_EXCLUDED)
    if short_session := short_session_warning(role):
        log.warning("suspicious_setting_found", role_name=role.name, reason=str(short_session))


_USERS_UNKNOWN = (
    "this system does not report the users of clients (neither NETLINK_SOCK_DIAG nor /proc/net/tcp works), so every "
    "client is denied. Give the role an authorization_token_file instead of allow_uids, or run where one of them works"
)

_EXCLUDED = (
    "the role has allow_uids, and every user who can read IRSA_SIDECAR_CREDENTIALS_FILE would get its credentials"
)


def _restored_state(config: Config, daemon: Daemon) -> "StateDirectory | None":
    """
    Restore the credentials that an earlier process saved. Return the task that saves new credentials.

    Return None if the kernel reports no boot ID or no time since the boot (CLOCK_BOOTTIME).

    Raises ConfigurationError if the directory is invalid.
    """
    from sidecar.daemon import state_directory  # noqa: PLC0415  only if a setting turns it on

    path = state_directory.open_directory(config.state_dir or "", allow_disk=config.state_allow_disk)
    boot = state_directory.this_boot()
    if boot is None:
        daemon.log.warning("state_unavailable", path=path, reason="the kernel reports no boot ID or no CLOCK_BOOTTIME")
        return None
    state = state_directory.StateDirectory(
        path, config.sts, clock=daemon.clock, boot=boot, log=daemon.log, metrics=daemon.metrics
    )
    state.restore(daemon.roles)
    return state
