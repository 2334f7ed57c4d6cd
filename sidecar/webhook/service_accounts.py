"""
Find ServiceAccounts by name, from a watch or by a request to the API server.

A Pod is often created a moment after its ServiceAccount, when the watch may not have reported it yet. So the webhook
requests a ServiceAccount that the watch does not know, or that has no role although the Pod needs one. While no watch
is running, the webhook requests every ServiceAccount. It also requests those that known_service_accounts.py does not
keep, because the ServiceAccounts of one namespace must not fill the memory for all namespaces.

Rule: the number of reviews that wait for the API server has a limit, because each holds a connection. Namespaces share
the requests fairly.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from sidecar.errors import KubernetesError
from sidecar.injection.names import EKS_ROLE_ARN
from sidecar.injection.settings import ServiceAccount
from sidecar.kubernetes.async_client import DEADLINE_SECONDS, KubernetesApi
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.list_watch import Collection, follow
from sidecar.log import Logger
from sidecar.webhook.known_service_accounts import KnownServiceAccounts, read_service_account
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.turns import FullError, Turns

PATH = "/api/v1/serviceaccounts"

REQUESTS_AT_ONCE = 32
"""Limit for simultaneous requests for single ServiceAccounts. Other reviews wait for their turn."""

MAX_WAITING, MAX_WAITING_OF_ONE = 96, 48
"""
Limits for the reviews that wait for their turn, for all namespaces and for one.

With the requests, 128 of the 500 connections wait for the API server at most.
"""


class ServiceAccounts:
    """The ServiceAccounts of the cluster. `run` watches them, and `fetch` also works while `run` is not running."""

    def __init__(
        self, api: KubernetesApi, log: Logger, metrics: WebhookMetrics, jitter: Callable[[], float] = random.random
    ) -> None:
        self._api = api
        self._log = log
        self._metrics = metrics
        self._jitter = jitter
        self._known, self._next = KnownServiceAccounts(), KnownServiceAccounts()
        self._requests = Turns(at_once=REQUESTS_AT_ONCE, max_waiting=MAX_WAITING, max_waiting_of_one=MAX_WAITING_OF_ONE)
        self.is_live = False
        """True while a watch is running, so that the known ServiceAccounts are current."""

    def __len__(self) -> int:
        return len(self._known)

    async def run(self) -> None:
        """Watch the ServiceAccounts until cancelled."""
        try:
            collection = Collection(PATH, self._add, self._listed, self._apply, self._lost, begin=self._begin)
            await follow(self._api, collection, self._jitter)
        finally:
            self.is_live = False

    def cached(self, namespace: str, name: str, *, needs_role: bool) -> ServiceAccount | None:
        """Return the ServiceAccount, or None if it must be fetched."""
        known = self._known.get(namespace, name) if self.is_live else None
        if known is None or (needs_role and EKS_ROLE_ARN not in known.annotations):
            return None
        self._metrics.count_lookup("cached")
        return known

    async def fetch(self, namespace: str, name: str) -> ServiceAccount | None:
        """
        Return the ServiceAccount from the API server, or None if it does not exist.

        Raises KubernetesError if the request fails, or if too many reviews wait for the API server.
        """
        try:
            async with self._turn(namespace):
                service_account = await self._api.read(
                    f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}", read_service_account
                )
        except FullError as exc:
            self._metrics.count_lookup("rejected")
            raise KubernetesError("Too many Pods wait for the API server", fix="Try again") from exc
        except KubernetesError:
            self._metrics.count_lookup("failed")
            raise
        self._metrics.count_lookup("fetched")
        return service_account

    @asynccontextmanager
    async def _turn(self, namespace: str) -> AsyncIterator[None]:
        """
        Wait for one of REQUESTS_AT_ONCE turns, and hold it for the block.

        Raises KubernetesError if no turn begins in time, or FullError if too many wait.
        """
        async with AsyncExitStack() as stack:
            try:
                with trio.fail_after(DEADLINE_SECONDS):
                    await stack.enter_async_context(self._requests.turn(namespace))
            except trio.TooSlowError as exc:
                raise KubernetesError(f"{REQUESTS_AT_ONCE} requests to the API server have no response yet") from exc
            yield

    def _begin(self) -> None:
        self._next = KnownServiceAccounts()

    def _add(self, document: Document) -> None:
        """Add one item of a list while the list is read, so that the whole list is never in memory."""
        self._next.put(read_service_account(document))

    def _listed(self, _items: Sequence[None]) -> None:
        self._known, self._next = self._next, KnownServiceAccounts()
        self.is_live = True
        self._log.info("service_accounts_listed", count=len(self._known), not_cached=self._known.beyond)

    def _apply(self, kind: str, document: Document) -> None:
        service_account = read_service_account(document)
        if kind == "DELETED":
            self._known.remove(service_account.namespace, service_account.name)
        else:
            self._known.put(service_account)

    def _lost(self, error: KubernetesError) -> None:
        self.is_live = False
        self._metrics.watch_restarts += 1
        self._log.warning("service_accounts_watch_ended", reason=str(error))
