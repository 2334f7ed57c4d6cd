"""Test the webhook's own certificate, which is in a Secret that replicas share."""

import base64
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from trio.testing import MockClock

from sidecar.errors import KubernetesError
from sidecar.kubernetes.async_client import KubernetesApi, open_api
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.webhook.certificate.ca_rollover import KEPT_SECONDS, SETTLED_SECONDS
from sidecar.webhook.certificate.issue import (
    CertificateBundle,
    _signed,
    from_secret,
    now_utc,
    renewed,
    signer_of,
    to_secret,
)
from sidecar.webhook.certificate.managed import CHECK_SECONDS, OwnCertificate, ca_bundles_of, names_of
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls
from tests.support.fakes.api_server import FakeApiServer, api_server
from tests.unit.webhook.cluster import CONFIGURATION, SECRET, Events, fill, kubeconfig_file, put_configuration

NOW = 1_800_000_000.0


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    with api_server() as found:
        fill(found)
        yield found


@pytest.fixture
async def api(fake: FakeApiServer, tmp_path: Path, no_proxies: None) -> AsyncIterator[KubernetesApi]:
    async with open_api(find_cluster(kubeconfig_file(fake, tmp_path))) as found:
        yield found


@pytest.fixture
def certificate(api: KubernetesApi) -> OwnCertificate:
    return own_certificate(api)


def own_certificate(api: KubernetesApi) -> OwnCertificate:
    """Return the certificate of a replica whose wall clock stands still."""
    return OwnCertificate(
        api,
        configuration="irsa-sidecar",
        secret="irsa-sidecar-webhook",
        tls=Tls(),
        log=Events().log,
        metrics=WebhookMetrics(),
        jitter=lambda: 0.0,
        now=lambda: NOW,
    )


def held(fake: FakeApiServer) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in fake.documents[SECRET]["data"].items()}


async def test_second_reconciliation_changes_nothing(fake: FakeApiServer, certificate: OwnCertificate) -> None:
    await certificate.reconcile()
    before = len(fake.bodies)
    await certificate.reconcile()
    assert len(fake.bodies) == before
    assert fake.documents[SECRET]["type"] == "kubernetes.io/tls"


@pytest.mark.parametrize("data", [{}, {"tls.crt": "AAAA"}, {"tls.crt": "not base64!"}])
async def test_malformed_secret_is_replaced(
    fake: FakeApiServer, certificate: OwnCertificate, data: dict[str, str]
) -> None:
    metadata = {"name": "irsa-sidecar-webhook", "namespace": "shop", "labels": {"a": "b"}}
    fake.put(SECRET, {"kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data})
    await certificate.reconcile()
    assert from_secret(held(fake)) is not None
    assert fake.documents[SECRET]["metadata"]["labels"] == {"a": "b"}


async def test_secret_that_openssl_rejects_is_replaced(
    fake: FakeApiServer, certificate: OwnCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (authority,) = renewed(None, ["127.0.0.1"], now_utc(NOW)).authorities
    with monkeypatch.context() as meanwhile:
        weak = rsa.generate_private_key(65537, 1024)
        meanwhile.setattr("sidecar.webhook.certificate.issue.ec.generate_private_key", lambda _curve: weak)
        serving = _signed(authority, ["127.0.0.1"], now_utc(NOW))
    written = to_secret(CertificateBundle((authority,), serving))
    data = {name: base64.b64encode(content).decode() for name, content in written.items()}
    metadata = {"name": "irsa-sidecar-webhook", "namespace": "shop"}
    fake.put(SECRET, {"kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data})
    await certificate.reconcile()
    found = from_secret(held(fake))
    assert found is not None
    assert found.serving != serving


async def test_next_reconciliation_succeeds_after_a_conflict(fake: FakeApiServer, certificate: OwnCertificate) -> None:
    configuration = fake.documents[CONFIGURATION]
    # Both replicas see no Secret, and the other replica creates the Secret first.
    fake.faults += [(200, configuration), (404, {}), (409, {"message": "already exists"})]
    with pytest.raises(KubernetesError) as caught:
        await certificate.reconcile()
    assert caught.value.status == 409
    await certificate.reconcile()
    assert from_secret(held(fake)) is not None


async def test_update_of_a_changed_configuration_is_retried(fake: FakeApiServer, certificate: OwnCertificate) -> None:
    old: Any = dict(fake.documents[CONFIGURATION])
    fake.put(CONFIGURATION, dict(old))
    fake.faults.append((200, {**old, "metadata": {**old["metadata"], "resourceVersion": "0"}}))
    with pytest.raises(KubernetesError) as caught:
        await certificate.reconcile()
    assert caught.value.status == 422
    assert "caBundle" not in fake.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]
    await certificate.reconcile()
    assert fake.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"]


def test_certificate_has_the_names_that_the_api_server_calls() -> None:
    service = {"service": {"name": "webhook", "namespace": "irsa-sidecar", "path": "/inject"}}
    clients = [service, {"url": "https://hook.example:8443/inject"}, service]
    configuration = {"webhooks": [{"clientConfig": client} for client in clients]}
    assert names_of(configuration) == ["hook.example", "webhook.irsa-sidecar.svc"]
    with pytest.raises(KubernetesError, match="names no service and no url"):
        names_of({"webhooks": []})


# Replacement of a certificate


class Replica:
    """A running replica, and the certificates that it serves."""

    def __init__(self, api: KubernetesApi) -> None:
        self.certificate = own_certificate(api)

    async def reconcile(self) -> float | None:
        """Return the seconds until the next check, or None if another replica wrote the Secret first."""
        with suppress(KubernetesError):
            return await self.certificate.reconcile()
        return None

    @property
    def serves(self) -> CertificateBundle | None:
        return self.certificate._active

    @property
    def signer(self) -> bytes:
        assert self.serves is not None
        signer = signer_of(self.serves)
        assert signer is not None
        return signer.certificate


def put_secret(fake: FakeApiServer, bundle: CertificateBundle) -> None:
    data = {name: base64.b64encode(value).decode() for name, value in to_secret(bundle).items()}
    fake.put(SECRET, {"kind": "Secret", "metadata": {"name": "irsa-sidecar-webhook"}, "data": data})


def trusted(fake: FakeApiServer) -> set[bytes]:
    (ca_bundle,) = ca_bundles_of(fake.documents[CONFIGURATION])
    return set(ca_bundle)


async def test_old_certificate_is_served_after_secret_is_deleted(
    fake: FakeApiServer, api: KubernetesApi, mock_clock: MockClock
) -> None:
    one, other = Replica(api), Replica(api)
    assert (await one.reconcile(), await other.reconcile()) == (CHECK_SECONDS, CHECK_SECONDS)
    before = one.signer
    fake.remove(SECRET)
    for replica in (one, other):
        assert await replica.reconcile() == pytest.approx(SETTLED_SECONDS)
        assert replica.signer == before
    assert len(trusted(fake)) == 2
    mock_clock.jump(SETTLED_SECONDS)
    assert await one.reconcile() == CHECK_SECONDS
    assert other.signer == before != one.signer
    assert {before, one.signer} == trusted(fake)
    await other.reconcile()
    assert other.signer == one.signer
    # The old authority is removed an hour after it became unneeded.
    await other.reconcile()
    assert len(trusted(fake)) == 2
    mock_clock.jump(KEPT_SECONDS)
    await other.reconcile()
    assert trusted(fake) == {one.signer}


async def test_renewed_certificate_is_served_at_once(
    fake: FakeApiServer, api: KubernetesApi, mock_clock: MockClock
) -> None:
    replica = Replica(api)
    await replica.reconcile()
    assert replica.serves is not None
    old = renewed(replica.serves, ["127.0.0.1"], now_utc(NOW) - timedelta(days=61))
    put_secret(fake, old)
    mock_clock.jump(SETTLED_SECONDS)
    changes = len(fake.bodies)
    assert await replica.reconcile() == CHECK_SECONDS
    assert replica.serves.serving != old.serving
    assert from_secret(held(fake)) == replica.serves
    assert len(fake.bodies) == changes + 1  # the replica wrote the Secret, but did not change the caBundle


async def test_expired_certificate_is_replaced_at_once(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(api)
    await replica.reconcile()
    before = replica.signer
    fake.remove(SECRET)
    monkeypatch.setattr(replica.certificate, "now", lambda: NOW + timedelta(days=91).total_seconds())
    assert await replica.reconcile() == CHECK_SECONDS
    assert replica.signer != before


async def test_starting_replica_removes_no_trusted_authority(
    fake: FakeApiServer, api: KubernetesApi, mock_clock: MockClock
) -> None:
    running, starting = Replica(api), Replica(api)
    await running.reconcile()
    fake.remove(SECRET)
    await starting.reconcile()  # without a previous certificate, the replica serves the new one at once
    assert trusted(fake) == {running.signer, starting.signer}


async def test_restored_ca_bundle_has_the_served_authority(
    fake: FakeApiServer, api: KubernetesApi, mock_clock: MockClock
) -> None:
    replica = Replica(api)
    await replica.reconcile()
    fake.remove(SECRET)
    await replica.reconcile()
    put_configuration(fake)
    mock_clock.jump(SETTLED_SECONDS)
    assert await replica.reconcile() == pytest.approx(SETTLED_SECONDS)
    assert replica.signer in trusted(fake)
    assert len(trusted(fake)) == 2


async def test_replicas_serve_only_trusted_certificates(
    fake: FakeApiServer, api: KubernetesApi, mock_clock: MockClock
) -> None:
    """Compare the served certificates with the configuration, as it is now and as it was some seconds before."""
    seed = 7
    print("seed", seed)
    chance = random.Random(seed)
    replicas = [Replica(api) for _ in range(3)]
    for replica in replicas:
        await replica.reconcile()
    backup = from_secret(held(fake))
    assert backup is not None
    switches = 0
    behind = trusted(fake)
    for _ in range(30):
        with suppress(KeyError):
            what = chance.randrange(8)
            if what == 0:
                fake.remove(SECRET)
            elif what == 1:
                fake.documents[SECRET]["data"]["tls.crt"] = "eA=="
            elif what == 2:
                put_secret(fake, backup)
        for replica in chance.sample(replicas, 2):
            before = replica.signer
            await replica.reconcile()
            if replica.signer != before:
                switches += 1
                assert replica.signer in behind
        assert {replica.signer for replica in replicas} <= trusted(fake)
        behind = trusted(fake)
        mock_clock.jump(chance.choice([1.0, 6.0, 15.0]))
    assert switches > 2
