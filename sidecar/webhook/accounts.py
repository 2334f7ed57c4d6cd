"""
ServiceAccounts by name: from a watch, and asked for at once where the watch does not know.

A Pod is often made a moment after its ServiceAccount, and the watch may be behind. So what is missing, or has no role
for a Pod that needs one, is asked for before it counts; and while there is no watch, everything is. Of each only the
annotations that injection reads are kept, and no more of one than it may be long: who may make ServiceAccounts in one
namespace must not take the memory that all others need.
"""

import random
from collections.abc import Callable, Sequence

from sidecar.errors import KubernetesError
from sidecar.injection.names import ACCOUNT_ANNOTATIONS, AMAZONS_ROLE_ARN, Document
from sidecar.injection.settings import ServiceAccount
from sidecar.log import Logger
from sidecar.webhook.api import KubernetesApi
from sidecar.webhook.follow import Collection, follow
from sidecar.webhook.metrics import WebhookMetrics

PATH = "/api/v1/serviceaccounts"

MAX_KEPT_CHARACTERS = 2048
"""The longest that an annotation may be, a role's ARN, is shorter: what is cut here is refused for what it is."""


class ServiceAccounts:
    """Those of the whole cluster. `run` keeps them; `find` may be called before and beside it."""

    def __init__(
        self, api: KubernetesApi, log: Logger, metrics: WebhookMetrics, jitter: Callable[[], float] = random.random
    ) -> None:
        self._api = api
        self._log = log
        self._metrics = metrics
        self._jitter = jitter
        self._known: dict[tuple[str, str], ServiceAccount] = {}
        self.is_live = False
        """Whether a watch is under way, so that what is known is as it is now."""

    def __len__(self) -> int:
        return len(self._known)

    async def run(self) -> None:
        """Follow them until cancelled."""
        try:
            await follow(self._api, Collection(PATH, _account, self._listed, self._take, self._lost), self._jitter)
        finally:
            self.is_live = False

    async def find(self, namespace: str, name: str, *, needs_role: bool) -> ServiceAccount | None:
        """None where there is none. Raises KubernetesError when that cannot be found out."""
        known = self._known.get((namespace, name)) if self.is_live else None
        if known is not None and (not needs_role or AMAZONS_ROLE_ARN in known.annotations):
            self._metrics.count_lookup("watch")
            return known
        try:
            account = await self._api.read(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}", _account)
        except KubernetesError:
            self._metrics.count_lookup("failed")
            raise
        self._metrics.count_lookup("asked")
        return account

    def _listed(self, accounts: Sequence[ServiceAccount]) -> None:
        self._known = {(account.namespace, account.name): account for account in accounts}
        self.is_live = True
        self._log.info("service_accounts_listed", count=len(self._known))

    def _take(self, kind: str, document: Document) -> None:
        account = _account(document)
        if kind == "DELETED":
            self._known.pop((account.namespace, account.name), None)
        else:
            self._known[account.namespace, account.name] = account

    def _lost(self, error: KubernetesError) -> None:
        self.is_live = False
        self._metrics.watch_ends += 1
        self._log.warning("service_accounts_watch_ended", reason=str(error))


def _account(document: Document) -> ServiceAccount:
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    kept = {name: annotations[name][:MAX_KEPT_CHARACTERS] for name in ACCOUNT_ANNOTATIONS if name in annotations}
    return ServiceAccount(metadata["namespace"], metadata["name"], kept)
