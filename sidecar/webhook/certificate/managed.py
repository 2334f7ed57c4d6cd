"""
Issue and renew the webhook's certificate, and keep it in a Secret that the replicas share.

Every replica uses the certificate in the Secret. If this certificate is missing, unusable or due for renewal, a replica
writes a new one. If two replicas write at the same time, the API server accepts only one write (by resourceVersion, or
because the name exists). The other replica reads the Secret again. Every replica adds all authorities in the Secret to
the MutatingWebhookConfiguration, even after an operator applied a manifest without them. A replica serves the
certificate in the Secret after the API server trusts its authority (ca_rollover.py contains the order). The certificate
is for the host names in the configuration, because the API server calls these hosts.
"""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    authorities_to_trust,
    ca_bundle_of,
    seconds_until_settled,
    updated_trust,
)
from sidecar.webhook.certificate.issue import (
    CertificateBundle,
    from_secret,
    is_usable,
    now_utc,
    renewed,
    signer_of,
    to_secret,
)
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls, context_with

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

CHECK_SECONDS = 3600.0
"""Interval between checks for a due renewal. Watches report changes by other clients."""

CONFLICT = 409

_Jitter = Callable[[], float]


@dataclass(eq=False, repr=False)
class OwnCertificate:
    """The certificate in the Secret, which `run` keeps active in `tls`. `last_error` explains why none is active."""

    api: KubernetesApi
    configuration: str
    secret: str
    tls: Tls
    log: Logger
    metrics: WebhookMetrics
    jitter: _Jitter
    now: Callable[[], float] = time.time
    last_error: str | None = field(default="no certificate yet", init=False)
    _active: CertificateBundle | None = field(default=None, init=False)
    _trust: Trust = field(default_factory=Trust, init=False)
    _changed: trio.Event = field(default_factory=trio.Event, init=False)

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self.api.namespace}/secrets"

    async def run(self) -> None:
        """Keep the certificate current until cancelled."""
        async with trio.open_nursery() as nursery:
            for path, name in ((CONFIGURATIONS, self.configuration), (self._secrets, self.secret)):
                only = {"fieldSelector": f"metadata.name={name}"}
                collection = Collection(path, lambda _: None, self._wake, self._wake_by_event, self._lost, only)
                nursery.start_soon(follow, self.api, collection, self.jitter)
            await self._keep()

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._changed = trio.Event()
            try:
                failures, pause = 0, await self.reconcile()
            except KubernetesError as error:
                failures += 1
                pause = pause_seconds(failures, self.jitter())
                self.last_error = str(error) if self._active is None else None
                self.log.warning("certificate_update_failed", reason=str(error), retry_in_seconds=round(pause, 1))
            with trio.move_on_after(pause):
                await self._changed.wait()

    async def reconcile(self) -> float:
        """
        Bring the certificate up to date, and return the seconds until the next check.

        Raises KubernetesError if the webhook's configuration is missing or names no host, or if a request fails.
        """
        configuration = await self.api.get(f"{CONFIGURATIONS}/{self.configuration}")
        if configuration is None:
            raise KubernetesError(
                f"There is no MutatingWebhookConfiguration {self.configuration}",
                fix="Apply the manifests",
            )
        bundle = await self._shared_bundle(names_of(configuration))
        await self._trust_authorities(configuration, bundle)
        if wait_seconds := self._seconds_until_usable(bundle):
            return wait_seconds
        self._activate(bundle)
        return CHECK_SECONDS

    async def _shared_bundle(self, names: Sequence[str]) -> CertificateBundle:
        """
        Return the bundle in the Secret. If it is missing or due, first write a new one to the Secret.

        If that write fails, return the existing bundle if it is usable.

        Raises KubernetesError if it is not usable, or another replica wrote the Secret.
        """
        path = f"{self._secrets}/{self.secret}"
        secret = await self.api.get(path)
        existing = _bundle_in(secret) if secret else None
        wanted = renewed(existing, names, now_utc(self.now()))
        if wanted is existing:
            return wanted
        document = _secret(secret, self.secret, self.api.namespace, wanted)
        try:
            await (self.api.replace(path, document) if secret else self.api.create(self._secrets, document))
        except KubernetesError as error:
            # A conflict means that another replica wrote the Secret. The caller soon tries again and reads that Secret.
            if existing is None or error.status == CONFLICT or not is_usable(existing, names, now_utc(self.now())):
                raise
            expires_at = existing.expires_at.isoformat()
            self.log.warning("certificate_renewal_failed", reason=str(error), expires_at=expires_at)
            return existing
        self.log.info("certificate_renewed", names=list(names), expires_at=wanted.expires_at.isoformat())
        return wanted

    async def _trust_authorities(self, configuration: Document, bundle: CertificateBundle) -> None:
        """Add the authorities of the Secret, and of the active certificate, to the configuration."""
        needed = tuple(
            dict.fromkeys(
                authority.certificate
                for each in (bundle, self._active)
                if each is not None
                for authority in reversed(each.authorities)
            )
        )
        ca_bundles = ca_bundles_of(configuration)
        self._trust = updated_trust(self._trust, ca_bundles, needed, trio.current_time())
        authorities = authorities_to_trust(self._trust, needed, trio.current_time())
        operations = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": ca_bundle_of(authorities)}
            for index, ca_bundle in enumerate(ca_bundles)
            if set(ca_bundle) != set(authorities)
        ]
        if operations:
            version = configuration["metadata"]["resourceVersion"]
            unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
            await self.api.patch(f"{CONFIGURATIONS}/{self.configuration}", [unchanged, *operations])
            self._trust = updated_trust(self._trust, [authorities], needed, trio.current_time())
            self.log.info("ca_bundle_updated", configuration=self.configuration, authorities=len(authorities))

    def _seconds_until_usable(self, bundle: CertificateBundle) -> float:
        """Return the seconds until the new certificate may be used, which is 0 if no valid certificate is active."""
        signer = signer_of(bundle)
        if signer is None or self._active is None or self._active.expires_at <= now_utc(self.now()):
            return 0.0
        return seconds_until_settled(self._trust, signer.certificate, trio.current_time())

    def _activate(self, bundle: CertificateBundle) -> None:
        self.last_error = None
        if bundle != self._active:
            self.tls.use(bundle.serving)
            self._active = bundle
            self.metrics.certificate = bundle.validity
            self.log.info(
                "certificate_activated", source=f"Secret {self.secret}", expires_at=bundle.expires_at.isoformat()
            )

    def _wake(self, _documents: Sequence[None]) -> None:
        self._changed.set()

    def _wake_by_event(self, _kind: str, _document: Document) -> None:
        self._changed.set()

    def _lost(self, error: KubernetesError) -> None:
        """Log the end of a watch, as a warning only if the operator must add a permission. Hourly checks continue."""
        log = self.log.warning if error.status == FORBIDDEN else self.log.debug
        log("certificate_watch_ended", reason=str(error))


def names_of(configuration: Document) -> list[str]:
    """
    Return the hosts of the services and URLs that the API server calls.

    Raises KubernetesError if there are none.
    """
    found: set[str] = set()
    for webhook in configuration.get("webhooks") or ():
        client = webhook["clientConfig"]
        if service := client.get("service"):
            # Kubernetes API reference, WebhookClientConfig: the certificate must be for <name>.<namespace>.svc.
            found.add(f"{service['name']}.{service['namespace']}.svc")
        elif host := urlsplit(client.get("url") or "").hostname:
            found.add(host)
    if not found:
        raise KubernetesError(
            "The MutatingWebhookConfiguration names no service and no url",
            fix="Apply the manifests",
        )
    return sorted(found)


def ca_bundles_of(configuration: Document) -> list[Authorities]:
    """Return the authorities in the caBundle of each webhook in the configuration."""
    return [
        authorities_in(webhook["clientConfig"].get("caBundle") or "") for webhook in configuration.get("webhooks") or ()
    ]


def _bundle_in(secret: Document) -> CertificateBundle | None:
    """Return the bundle in the Secret, or None if there is none that can be served."""
    bundle = from_secret(_decoded(secret))
    try:
        if bundle is not None:
            context_with(bundle.serving)
    except ConfigurationError:
        return None
    return bundle


def _decoded(secret: Document) -> dict[str, bytes]:
    data: dict[str, Any] = secret.get("data") or {}
    try:
        return {name: base64.b64decode(value) for name, value in data.items()}
    except ValueError:
        return {}


def _secret(existing: Document | None, name: str, namespace: str, bundle: CertificateBundle) -> Document:
    data = {key: base64.b64encode(value).decode() for key, value in to_secret(bundle).items()}
    if existing is not None:
        return {**existing, "data": {**(existing.get("data") or {}), **data}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": data,
    }
