"""
The one tree of long-lived tasks: a refresher, the credentials listener and the admin listener.

No failure of one part ends another: what a connection raises stays in its connection (server.py), and a refresher
that raises what nobody foresaw is logged and started again, while its credentials stay in service.
"""

import gc
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from sidecar import __version__, admin, endpoint, exchange, server
from sidecar.audit import Audit
from sidecar.authorization import Authorization
from sidecar.clock import Clock, Instant
from sidecar.config import Config, unknown_variables
from sidecar.endpoint import Answer
from sidecar.http import Request
from sidecar.listen import WILDCARDS, format_address, is_address
from sidecar.log import Logger, default_format, make_logger
from sidecar.metrics import Metrics
from sidecar.refresher import Refresher
from sidecar.store import Snapshot, Store
from sidecar.sts_client import Exchange
from sidecar.sts_regions import open_regions

CREDENTIALS_PATH = "/v1/credentials"

RESTART_SECONDS = 10.0
"""Before a refresher that raised is started again: long enough not to spin, well within a session's half life."""

SETTLE_SECONDS = 60.0
"""Start-up runs without the garbage collector, but not for longer than this if no credentials come."""

REAL_CLOCK = Clock(time.time, trio.current_time)


class ServedRole:
    """A role as the endpoint sees it (endpoint.Route), put together from what keeps its parts."""

    def __init__(self, refresher: Refresher, authorization: Authorization | None, clock: Clock) -> None:
        self.refresher = refresher
        self.store = refresher.store
        self.role = refresher.role.name
        self._authorization = authorization
        self._clock = clock

    @property
    def snapshot(self) -> Snapshot | None:
        return self.store.snapshot

    @property
    def authorization(self) -> bytes | None:
        return None if self._authorization is None else self._authorization.secret(self._clock.monotonic())

    @property
    def failure(self) -> str | None:
        return self.refresher.health.trouble

    def state(self, now: Instant) -> admin.RoleState:
        health, snapshot = self.refresher.health, self.snapshot
        return admin.RoleState(
            role=self.role,
            is_ready=snapshot is not None and snapshot.is_alive(now),
            trouble=health.trouble,
            looked_at=health.looked_at,
            credentials_expire_at=snapshot.credentials.expires_at.timestamp() if snapshot else None,
            token_expires_at=health.token_expires_at,
            skew_seconds=health.skew_seconds,
        )


@dataclass
class Daemon:
    """Everything that one run shares. `serve` runs it; what starts it sets `stop` to end it in order."""

    role: ServedRole
    clock: Clock
    log: Logger
    metrics: Metrics
    dropped_lines: Callable[[], int]
    stop: trio.Event

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        admin_listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until `stop` is set and the answers under way have ended. Starts when the listeners accept."""
        async with trio.open_nursery() as background:
            background.start_soon(self._keep, self.role.refresher)
            async with trio.open_nursery() as servers:
                await servers.start(self._serve_credentials, listeners, background)
                await servers.start(self._serve_admin, admin_listeners)
                task_status.started()
            # Not before: the servers' scope is within this one, and so are the answers under way.
            background.cancel_scope.cancel()

    async def first_credentials(self) -> None:
        """Until there are living credentials. The caller brings the deadline."""
        while self.role.store.alive(self.clock.now()) is None:
            await self.role.store.wait_for_next()

    async def _keep(self, refresher: Refresher) -> None:
        while True:
            try:
                await refresher.run()
            except Exception as exc:  # noqa: BLE001  whatever it is, the credentials in service must stay there
                self.log.critical("refresher_failed", exc=exc, restart_in_seconds=RESTART_SECONDS)
            await trio.sleep(RESTART_SECONDS)

    async def _serve_credentials(
        self, listeners: Sequence[socket.socket], background: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        audit = Audit(self.log.info, lambda: background.start_soon(_flush_soon, audit))
        routes: dict[bytes, endpoint.Route] = {CREDENTIALS_PATH.encode(): self.role}
        requests, monotonic = self.metrics.requests, self.clock.monotonic

        def respond(request: Request, now: Instant) -> Answer:
            return endpoint.answer(request, routes, hosts, now)

        def observe(answer: Answer, peer: Any) -> None:
            requests[answer.status] = requests.get(answer.status, 0) + 1
            if answer.snapshot is not None and answer.role is not None:
                audit.record(answer.role, answer.snapshot, peer, monotonic())

        hosts = _hosts(listeners)
        try:
            await server.serve(
                listeners,
                respond,
                now=self.clock.now,
                observe=observe,
                report=self._report,
                wait=lambda _answer: self.role.store.wait_for_next(),
                limits=server.Limits(connections=server.connection_limit()),
                stop=self.stop,
                task_status=task_status,
            )
        finally:
            audit.flush()

    async def _serve_admin(self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None]) -> None:
        def respond(request: Request, now: Instant) -> Answer:
            return admin.answer(request, [self.role.state(now)], self.metrics, self.dropped_lines(), now)

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
) -> Daemon:
    """Put the parts together. Raises ConfigurationError."""
    metrics = metrics or Metrics()
    refresher = Refresher(
        exchange.check_role(config.role),
        exchange_with,
        Store(endpoint.credentials_response),
        clock=clock,
        jitter=jitter,
        log=log,
        metrics=metrics,
    )
    path = config.authorization_token_file
    role = ServedRole(refresher, Authorization(path) if path else None, clock)
    return Daemon(role, clock, log, metrics, dropped_lines, trio.Event())


def run(config: Config, listeners: Sequence[socket.socket], admin_listeners: Sequence[socket.socket]) -> int:
    """`irsa-sidecar run` once its listeners are bound. Returns the exit status. Raises ConfigurationError."""
    trio.run(_run, config, listeners, admin_listeners)
    return 0


async def _run(config: Config, listeners: Sequence[socket.socket], admin_listeners: Sequence[socket.socket]) -> None:
    log, writer = make_logger(config.log_format or default_format(), config.log_level)
    url = f"http://{format_address(*listeners[0].getsockname()[:2])}{CREDENTIALS_PATH}"
    for sentence in unknown_variables(os.environ):
        log.warning("setting_unknown", reason=sentence)
    for sentence in exchange.warnings_about(config.role, config.sts):
        log.warning("setting_doubtful", reason=sentence)
    metrics = Metrics()
    async with open_regions(config.sts, monotonic=trio.current_time, log=log, metrics=metrics) as sts:
        daemon = make_daemon(
            config, sts.exchange, clock=REAL_CLOCK, log=log, metrics=metrics, dropped_lines=lambda: writer.dropped
        )
        async with trio.open_nursery() as background:
            await background.start(_stop_on_signal, daemon, config.drain_seconds)
            background.start_soon(_settle, daemon)
            async with trio.open_nursery() as serving:
                await serving.start(daemon.serve, listeners, admin_listeners)
                sts_url = exchange.endpoint_of(config.sts)
                log.info("started", version=__version__, role_arn=config.role.role_arn, sts=sts_url, url=url)
            background.cancel_scope.cancel()
    log.info("stopped")


async def _stop_on_signal(daemon: Daemon, drain_seconds: float, *, task_status: trio.TaskStatus[None]) -> None:
    """The first signal starts the drain, and its end or a second one the orderly stop."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        number = await anext(signals)
        daemon.log.info("stopping", signal=signal.Signals(number).name, drain_seconds=drain_seconds)
        with trio.move_on_after(drain_seconds):
            await anext(signals)
        daemon.stop.set()
        await trio.sleep_forever()


async def _settle(daemon: Daemon) -> None:
    """
    What start-up made lives as long as the process: keep the collector from ever walking it again.

    It is not collected first: that would take 26 ms between the first credentials and the clients that wait for them.
    """
    with trio.move_on_after(SETTLE_SECONDS):
        await daemon.first_credentials()
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
