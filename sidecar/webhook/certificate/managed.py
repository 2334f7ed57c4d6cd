"""
A certificate that the webhook makes and renews itself, in a Secret that its replicas share.

The Secret is what counts. Who finds it missing, unusable or due writes it anew, and of two who do at once the API
server takes one (resourceVersion, or that the name is taken); the other reads again. Every replica sees to it that the
MutatingWebhookConfiguration trusts all authorities in the Secret, also after somebody applied a manifest without them,
and serves what the Secret holds once the API server knows them (trust.py has the order). For which names the
certificate is, that configuration says: those that the API server will call.
"""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import trio

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.async_client import FORBIDDEN, KubernetesApi
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.list_watch import Collection, follow, pause_seconds
from sidecar.log import Logger
from sidecar.webhook.certificate.ca_rollover import (
    Authorities,
    Trust,
    authorities_in,
    bundle_of,
    observed,
    seconds_until_settled,
    to_trust,
)
from sidecar.webhook.certificate.issue import Identity, from_secret, is_usable, now_utc, renewed, signer_of, to_secret
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls, context_with

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

LOOK_SECONDS = 3600.0
"""Between two looks at the clock; what others change is seen from watches."""

CONFLICT = 409

_Jitter = Callable[[], float]


class OwnCertificate:
    """Keeps `tls`, the Secret and the configuration's caBundle in step. `trouble` says why there is none yet."""

    def __init__(
        self,
        api: KubernetesApi,
        *,
        configuration: str,
        secret: str,
        tls: Tls,
        log: Logger,
        metrics: WebhookMetrics,
        jitter: _Jitter,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._configuration = configuration
        self._secret = secret
        self._secrets = f"/api/v1/namespaces/{api.namespace}/secrets"
        self._tls = tls
        self._log = log
        self._metrics = metrics
        self._jitter = jitter
        self._now = now
        self._in_use: Identity | None = None
        self._trust = Trust()
        self._changed = trio.Event()
        self.trouble: str | None = "there is no certificate yet"

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for path, name in ((CONFIGURATIONS, self._configuration), (self._secrets, self._secret)):
                only = {"fieldSelector": f"metadata.name={name}"}
                collection = Collection(path, lambda _: None, self._woken, self._woken_by_one, self._lost, only)
                nursery.start_soon(follow, self._api, collection, self._jitter)
            await self._keep()

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._changed = trio.Event()
            try:
                failures, pause = 0, await self.look()
            except KubernetesError as error:
                failures += 1
                pause = pause_seconds(failures, self._jitter())
                self.trouble = str(error) if self._in_use is None else None
                self._log.warning("certificate_update_failed", reason=str(error), retry_in_seconds=round(pause, 1))
            with trio.move_on_after(pause):
                await self._changed.wait()

    async def look(self) -> float:
        """Bring all three one step closer. Returns in how many seconds to look again. Raises KubernetesError."""
        configuration = await self._api.get(f"{CONFIGURATIONS}/{self._configuration}")
        if configuration is None:
            raise KubernetesError(
                f"There is no MutatingWebhookConfiguration {self._configuration}: apply the manifests."
            )
        identity = await self._shared(names_of(configuration))
        await self._make_trusted(configuration, identity)
        if wait_seconds := self._seconds_until_usable(identity):
            return wait_seconds
        self._use(identity)
        return LOOK_SECONDS

    async def _shared(self, names: Sequence[str]) -> Identity:
        """What the Secret holds, once it is as it shall be."""
        path = f"{self._secrets}/{self._secret}"
        secret = await self._api.get(path)
        there = _held(secret) if secret else None
        wanted = renewed(there, names, now_utc(self._now()))
        if wanted is there:
            return wanted
        document = _secret(secret, self._secret, self._api.namespace, wanted)
        try:
            await (self._api.replace(path, document) if secret else self._api.create(self._secrets, document))
        except KubernetesError as error:
            # A conflict is the other replica's: the caller comes back soon and reads what that one wrote.
            if there is None or error.status == CONFLICT or not is_usable(there, names, now_utc(self._now())):
                raise
            expires_at = there.expires_at.isoformat()
            self._log.warning("certificate_renewal_failed", reason=str(error), expires_at=expires_at)
            return there
        self._log.info("certificate_renewed", names=list(names), expires_at=wanted.expires_at.isoformat())
        return wanted

    async def _make_trusted(self, configuration: Document, identity: Identity) -> None:
        """The authorities of the Secret, and those of what is served here."""
        needed = tuple(
            dict.fromkeys(
                authority.certificate
                for each in (identity, self._in_use)
                if each is not None
                for authority in reversed(each.authorities)
            )
        )
        bundles = bundles_of(configuration)
        self._trust = observed(self._trust, bundles, needed, trio.current_time())
        authorities = to_trust(self._trust, needed, trio.current_time())
        operations = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle_of(authorities)}
            for index, bundle in enumerate(bundles)
            if set(bundle) != set(authorities)
        ]
        if operations:
            version = configuration["metadata"]["resourceVersion"]
            as_it_was = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
            await self._api.patch(f"{CONFIGURATIONS}/{self._configuration}", [as_it_was, *operations])
            self._trust = observed(self._trust, [authorities], needed, trio.current_time())
            self._log.info("ca_bundle_updated", configuration=self._configuration, authorities=len(authorities))

    def _seconds_until_usable(self, identity: Identity) -> float:
        """What is served gives way once its successor is trusted; where nothing is that could be, at once."""
        signer = signer_of(identity)
        if signer is None or self._in_use is None or self._in_use.expires_at <= now_utc(self._now()):
            return 0.0
        return seconds_until_settled(self._trust, signer.certificate, trio.current_time())

    def _use(self, identity: Identity) -> None:
        self.trouble = None
        if identity != self._in_use:
            self._tls.use(identity.serving)
            self._in_use = identity
            self._metrics.certificate = identity.validity
            self._log.info(
                "certificate_activated", source=f"Secret {self._secret}", expires_at=identity.expires_at.isoformat()
            )

    def _woken(self, _documents: Sequence[None]) -> None:
        self._changed.set()

    def _woken_by_one(self, _kind: str, _document: Document) -> None:
        self._changed.set()

    def _lost(self, error: KubernetesError) -> None:
        """The hourly look goes on without. Only a right that is missing does not come back by itself."""
        log = self._log.warning if error.status == FORBIDDEN else self._log.debug
        log("certificate_watch_ended", reason=str(error))


def names_of(configuration: Document) -> list[str]:
    """The hosts that the API server calls, by service or by URL. Raises KubernetesError if there are none."""
    found: set[str] = set()
    for webhook in configuration.get("webhooks") or ():
        client = webhook["clientConfig"]
        if service := client.get("service"):
            # Reference, WebhookClientConfig: the certificate must be for <name>.<namespace>.svc.
            found.add(f"{service['name']}.{service['namespace']}.svc")
        elif host := urlsplit(client.get("url") or "").hostname:
            found.add(host)
    if not found:
        raise KubernetesError("The MutatingWebhookConfiguration names no service and no url: apply the manifests.")
    return sorted(found)


def bundles_of(configuration: Document) -> list[Authorities]:
    """The authorities that each of its webhooks trusts."""
    return [
        authorities_in(webhook["clientConfig"].get("caBundle") or "") for webhook in configuration.get("webhooks") or ()
    ]


def _held(secret: Document) -> Identity | None:
    """What it holds; None where that is nothing that could be served."""
    identity = from_secret(_decoded(secret))
    try:
        if identity is not None:
            context_with(identity.serving)
    except ConfigurationError:
        return None
    return identity


def _decoded(secret: Document) -> dict[str, bytes]:
    data: dict[str, Any] = secret.get("data") or {}
    try:
        return {name: base64.b64decode(value) for name, value in data.items()}
    except ValueError:
        return {}


def _secret(there: Document | None, name: str, namespace: str, identity: Identity) -> Document:
    data = {key: base64.b64encode(value).decode() for key, value in to_secret(identity).items()}
    if there is not None:
        return {**there, "data": {**(there.get("data") or {}), **data}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": data,
    }
