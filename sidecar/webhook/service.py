"""
Serve the webhook's routes, and run its tasks in one tree.

`/inject` is for the API server, over TLS. `/livez`, `/readyz` and `/metrics` have a separate address without TLS.
"""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import trio

from sidecar.background import RESTART_SECONDS, keep_running
from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.injection.settings import ServiceAccount, Settings, choose_kind
from sidecar.kubernetes.async_client import KubernetesApi
from sidecar.kubernetes.list_watch import pause_seconds
from sidecar.log import Logger
from sidecar.serving.connection_budget import Budget
from sidecar.serving.http_message import Request, Response, text_response
from sidecar.serving.http_server import Limits, Server
from sidecar.webhook.certificate.managed import OwnCertificate
from sidecar.webhook.certificate.mounted import CHECK_SECONDS, MountedCertificate
from sidecar.webhook.events import Events
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.review import (
    Outcome,
    Review,
    ReviewResult,
    as_json,
    busy,
    decide,
    parts_in,
    read_review,
    temporarily_denied,
)
from sidecar.webhook.service_accounts import ServiceAccounts
from sidecar.webhook.tls import Tls
from sidecar.webhook.turns import FullError, Turns

PATH = "/inject"

VERSION_SECONDS = 3600.0
"""Interval between checks of the API server's version, which may change while the webhook runs."""

LARGE_BYTES = 64 * 1024
"""Size above which a review is large. A parsed review can use 24 times its size."""

QUICK_BYTES = 16 * 1024
"""Size up to which a review is parsed in the event loop, in less than 1 ms. Most reviews have 3 to 8 KiB."""

MAX_PARSING_WAITING = 128
"""Limit for waiting reviews of QUICK_BYTES to LARGE_BYTES. A thread parses one of them at a time, in at most 3 ms."""

LONG_PARTS, LONG_CONTAINERS = 2000, 30
"""
Numbers of values and of containers above which a review takes long.

A container takes 0.05 ms, and 500 of them fit into 2,000 values. The reviews of most Pods have 200 to 600 values.
"""

MAX_LARGE_WAITING = 6
"""Limit for large reviews that wait. With the one being parsed, of 4 MiB each, they leave 4 MiB for other bodies."""

MAX_LONG_WAITING, MAX_LONG_WAITING_OF_ONE = 32, 12
"""
Limits for waiting reviews that take long, for all namespaces and for one.

One such review takes at most 0.25 s, and usually a few ms.
"""

RESPOND_SECONDS = 30.0
"""Deadline for a response. No API server waits longer, because Kubernetes limits `timeoutSeconds` to 30."""

_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class _Wait(NamedTuple):
    """
    The facts that are kept while a review waits, together with its body.

    `review` is without the Pod's content. `service_account` is None until it is fetched.
    """

    review: Review
    service_account: ServiceAccount | None
    takes_turn: bool


@dataclass
class Service:
    """
    One process of the webhook.

    `certificate` updates `tls`. `settings.is_native` follows `native_sidecars`, which is one of NATIVE_CHOICES, and the
    API server's version.
    """

    api: KubernetesApi
    settings: Settings
    native_sidecars: str
    accounts: ServiceAccounts
    events: Events
    tls: Tls
    certificate: OwnCertificate | MountedCertificate
    metrics: WebhookMetrics
    log: Logger
    jitter: Callable[[], float]
    dropped_lines: Callable[[], int] = lambda: 0
    large: trio.Lock = field(default_factory=trio.Lock)
    """The lock that a large review holds from parsing to its response, so that only one is in memory as objects."""
    parsing: trio.Lock = field(default_factory=trio.Lock)
    """Held while a thread parses a review that is neither quick nor large."""
    long: Turns = field(
        default_factory=lambda: Turns(
            at_once=1, max_waiting=MAX_LONG_WAITING, max_waiting_of_one=MAX_LONG_WAITING_OF_ONE
        )
    )
    """The queue of reviews that take long, such as reviews with a list of roles.

    A thread decides on these reviews, so that other reviews do not wait.
    """
    budget: Budget = field(default_factory=Budget)
    stop: trio.Event = field(default_factory=trio.Event)
    is_stopping: bool = False
    version: str | None = None

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        admin_listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stop` is set and the remaining responses are sent."""
        async with trio.open_nursery() as background:
            for name, task in (
                ("service_accounts", self.accounts.run),
                ("events", self.events.run),
                ("certificate", self._keep_certificate),
                ("api_server_version", self._keep_version),
            ):
                background.start_soon(keep_running, task, partial(self._report_task, name))
            await self._serve_requests(listeners, admin_listeners, task_status)
            background.cancel_scope.cancel()

    async def _serve_requests(
        self,
        listeners: Sequence[socket.socket],
        admin_listeners: Sequence[socket.socket],
        task_status: trio.TaskStatus[None],
    ) -> None:
        server = Server(
            self.respond,
            self._report,
            budget=self.budget,
            limits=Limits(respond_seconds=RESPOND_SECONDS),
            tls=lambda: self.tls.context,
            is_draining=lambda: self.is_stopping,
            stop=self.stop,
        )
        admin = replace(server, respond=self.respond_to_admin, tls=None, limits=Limits(max_body_bytes=0))
        async with trio.open_nursery() as servers:
            await servers.start(server.serve, listeners)
            await servers.start(admin.serve, admin_listeners)
            task_status.started()

    # Routes

    async def respond(self, request: Request) -> Response:
        """Respond to an AdmissionReview from the API server."""
        if request.path != PATH:
            return text_response(404, f"The only path is {PATH}.")
        if request.method != "POST":
            return text_response(405, f"POST an AdmissionReview to {PATH}.", ("Allow", "POST"))
        is_large = len(request.body) > LARGE_BYTES
        lock, limit = (self.large, MAX_LARGE_WAITING) if is_large else (self.parsing, MAX_PARSING_WAITING)
        if not _is_quick(request.body) and lock.statistics().tasks_waiting >= limit:
            self.log.warning("large_review_rejected", bytes=len(request.body), waiting=limit)
            return text_response(503, "Too many large Pods are being created. Try again.")
        async with self.large if is_large else nullcontext():
            return await self._review(request.body)

    async def _review(self, body: bytes) -> Response:
        began_at = time.perf_counter()
        try:
            review, result = await self._decided(body)
        except ConfigurationError as error:
            return text_response(400, str(error))
        if result.fault is not None:
            self._report(result.fault)
        self.metrics.reviews[result.outcome] += 1
        self.metrics.review_seconds.observe(time.perf_counter() - began_at)
        self._log_result(review, result)
        return Response(200, as_json(result.document))

    async def _decided(self, body: bytes) -> tuple[Review, ReviewResult]:
        """
        Return the review and its result.

        A review that waits is parsed again afterwards, because a parsed Pod uses up to 24 times the memory of the
        body, and 160 reviews may wait.

        Raises ConfigurationError if the body is not an AdmissionReview.
        """
        review = await self._parsed(body)
        if review.pod is None:
            return review, decide(review, None, self.settings)
        service_account = self.accounts.cached(
            review.namespace, review.service_account, needs_role=not review.names_role
        )
        takes_turn = _takes_turn(review, body)
        if service_account is not None and not takes_turn and len(body) <= LARGE_BYTES:
            return review, decide(review, service_account, self.settings)
        wait = _Wait(review.without_content, service_account, takes_turn)
        del review
        return await self._decided_later(body, wait)

    async def _decided_later(self, body: bytes, wait: _Wait) -> tuple[Review, ReviewResult]:
        namespace, name = wait.review.namespace, wait.review.service_account
        try:
            service_account = wait.service_account or await self.accounts.fetch(namespace, name)
        except KubernetesError as error:
            return wait.review, temporarily_denied(wait.review, str(error))
        try:
            async with self.long.turn(namespace) if wait.takes_turn else nullcontext():
                review = await self._parsed(body)
                if not wait.takes_turn and len(body) <= LARGE_BYTES:
                    return review, decide(review, service_account, self.settings)
                return review, await trio.to_thread.run_sync(decide, review, service_account, self.settings)
        except FullError:
            return wait.review, busy(wait.review)

    async def _parsed(self, body: bytes) -> Review:
        """
        Return the review. A thread parses it unless that is quick.

        Raises ConfigurationError if the body is not an AdmissionReview.
        """
        if _is_quick(body):
            return read_review(body)
        async with nullcontext() if len(body) > LARGE_BYTES else self.parsing:
            return await trio.to_thread.run_sync(read_review, body)

    def _log_result(self, review: Review, result: ReviewResult) -> None:
        if result.outcome is Outcome.SKIPPED:
            return
        log = self.log.info if result.outcome is Outcome.INJECTED else self.log.warning
        what = {"reason": result.reason} if result.reason else {}
        warnings = {"warnings": list(result.warnings)} if result.warnings else {}
        log(
            f"pod_{result.outcome.value}" if result.outcome is not Outcome.FAILED else "pod_denied_temporarily",
            namespace=review.namespace,
            pod=review.name,
            service_account=review.service_account,
            dry_run=review.is_dry_run,
            **what,
            **warnings,
        )
        self.events.emit(review, result)

    async def respond_to_admin(self, request: Request) -> Response:
        """Respond to probes and scrapes."""
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "GET /livez, /readyz or /metrics.", ("Allow", "GET, HEAD"))
        if request.path == "/livez":
            return text_response(200, "ok")
        if request.path == "/readyz":
            problems = self.problems()
            return text_response(503 if problems else 200, "\n".join(problems) or "ok")
        if request.path == "/metrics":
            body = self.metrics.exposition(
                is_ready=not self.problems(),
                is_watching=self.accounts.is_live,
                accounts=len(self.accounts),
                dropped_lines=self.dropped_lines(),
                closed=self.budget.closed,
            )
            return Response(200, body, _METRICS)
        return text_response(404, "The paths are /livez, /readyz and /metrics.")

    def problems(self) -> list[str]:
        """
        Return the reasons why the webhook is not ready.

        A broken watch is not a reason, because the webhook then requests each ServiceAccount. An API server that
        becomes unreachable after the start is not a reason either, because it creates no Pods in that time.
        """
        found = [] if self.tls.context else [getattr(self.certificate, "last_error", None) or "no certificate yet"]
        if self.version is None:
            found.append("the API server's version is not yet known")
        return [*found, *(["stopping"] if self.is_stopping else [])]

    # Tasks

    async def _keep_certificate(self) -> None:
        if isinstance(self.certificate, OwnCertificate):
            await self.certificate.run()
        else:
            while True:
                await trio.sleep(CHECK_SECONDS)
                await self.certificate.check()

    async def _keep_version(self) -> None:
        failures = 0
        while True:
            try:
                self._apply_version(await self.api.get("/version") or {})
                failures, pause = 0, VERSION_SECONDS
            except (KubernetesError, KeyError, TypeError, ValueError) as error:
                failures += 1
                pause = pause_seconds(failures, self.jitter())
                self.log.warning("api_server_version_fetch_failed", reason=str(error), retry_in_seconds=round(pause, 1))
            await trio.sleep(pause)

    def _apply_version(self, version: dict[str, str]) -> None:
        kind = choose_kind(self.native_sidecars, version)
        name = version.get("gitVersion") or "unknown"
        if name != self.version:
            self.log.info(
                "api_server_version_changed", version=name, native_sidecars=kind.is_native, reason=kind.reason
            )
        self.version = name
        self.settings = self.settings._replace(is_native=kind.is_native)

    def _report(self, exc: Exception) -> None:
        self.log.error("request_failed", exc=exc)

    def _report_task(self, name: str, exc: Exception) -> None:
        self.log.critical("background_task_failed", task=name, exc=exc, restart_in_seconds=RESTART_SECONDS)


def _is_quick(body: bytes) -> bool:
    return len(body) <= QUICK_BYTES and parts_in(body) <= LONG_PARTS


def _takes_turn(review: Review, body: bytes) -> bool:
    """Return whether the review must wait for a turn. Large reviews usually need none, because they run one by one."""
    if len(body) > LARGE_BYTES:
        return review.lists_roles
    return review.lists_roles or review.containers > LONG_CONTAINERS or parts_in(body) > LONG_PARTS
