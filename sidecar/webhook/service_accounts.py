"""
Find ServiceAccounts by name, from a watch or by a request to the API server.

A Pod is often created a moment after its ServiceAccount, when the watch may not have reported it yet. So the webhook
requests a ServiceAccount that the watch does not know, or that has no role although the Pod needs one. While no watch
is running, the webhook requests every ServiceAccount. It also requests those that known_service_accounts.py does not
keep, because the ServiceAccounts of one namespace must not fill the memory for all namespaces.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

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

PATH = "/api/v1/serviceaccounts"

REQUESTS_AT_ONCE = 32
"""Limit for simultaneous requests for single ServiceAccounts. Other reviews wait for their turn."""


class ServiceAccounts:
    """The ServiceAccounts of the cluster. `run` watches them, and `find` also works while `run` is not running."""

    def __init__(
        self, api: KubernetesApi, log: Logger, metrics: WebhookMetrics, jitter: Callable[[], float] = random.random
    ) -> None:
        self._api = api
        self._log = log
        self._metrics = metrics
        self._jitter = jitter
        self._known, self._next = KnownServiceAccounts(), KnownServiceAccounts()
        self._requests = trio.CapacityLimiter(REQUESTS_AT_ONCE)
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

    async def find(self, namespace: str, name: str, *, needs_role: bool) -> ServiceAccount | None:
        """
        Return the ServiceAccount, or None if it does not exist.

        Raises KubernetesError if a request fails, or cannot begin in time.
        """
        known = self._known.get(namespace, name) if self.is_live else None
        if known is not None and (not needs_role or EKS_ROLE_ARN in known.annotations):
            self._metrics.count_lookup("cached")
            return known
        try:
            async with self._slot():
                service_account = await self._api.read(
                    f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}", read_service_account
                )
        except KubernetesError:
            self._metrics.count_lookup("failed")
            raise
        self._metrics.count_lookup("fetched")
        return service_account

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """
        Wait for one of REQUESTS_AT_ONCE slots, and hold it for the block.

        Raises KubernetesError if no slot is free in time.
        """
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                await self._requests.acquire()
        except trio.TooSlowError as exc:
            raise KubernetesError(f"{REQUESTS_AT_ONCE} requests to the API server have no response yet") from exc
        try:
            yield
        finally:
            self._requests.release()

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
