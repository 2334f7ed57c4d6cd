"""The webhook's own certificate: what the configuration says, what a Secret may hold, who wins."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import KubernetesError
from sidecar.setup.kubeconfig import find_cluster
from sidecar.webhook.api import open_api
from sidecar.webhook.certificate import from_secret
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.own_certificate import OwnCertificate, names_of
from sidecar.webhook.tls import Tls
from tests.fakes.api_server import FakeApiServer, api_server
from tests.webhook.cluster import CONFIGURATION, SECRET, Events, fill, kubeconfig_file

NOW = 1_800_000_000.0


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    with api_server() as found:
        fill(found)
        yield found


@pytest.fixture
async def certificate(fake: FakeApiServer, tmp_path: Path, no_proxies: None) -> AsyncIterator[OwnCertificate]:
    async with open_api(find_cluster(kubeconfig_file(fake, tmp_path))) as api:
        yield OwnCertificate(
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


async def test_a_second_look_changes_nothing(fake: FakeApiServer, certificate: OwnCertificate) -> None:
    await certificate.look()
    before = len(fake.bodies)
    await certificate.look()
    assert len(fake.bodies) == before
    assert fake.documents[SECRET]["type"] == "kubernetes.io/tls"


@pytest.mark.parametrize("data", [{}, {"tls.crt": "AAAA"}, {"tls.crt": "not base64!"}])
async def test_a_secret_that_holds_something_else_is_made_right(
    fake: FakeApiServer, certificate: OwnCertificate, data: dict[str, str]
) -> None:
    metadata = {"name": "irsa-sidecar-webhook", "namespace": "shop", "labels": {"a": "b"}}
    fake.put(SECRET, {"kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data})
    await certificate.look()
    assert from_secret(held(fake)) is not None
    assert fake.documents[SECRET]["metadata"]["labels"] == {"a": "b"}


async def test_who_comes_second_takes_what_the_first_wrote(fake: FakeApiServer, certificate: OwnCertificate) -> None:
    configuration = fake.documents[CONFIGURATION]
    # Neither sees a Secret, and the other's is there a moment before ours.
    fake.faults += [(200, configuration), (404, {}), (409, {"message": "already exists"})]
    with pytest.raises(KubernetesError) as caught:
        await certificate.look()
    assert caught.value.status == 409
    await certificate.look()
    assert from_secret(held(fake)) is not None


async def test_a_configuration_that_changed_in_between_is_left_to_the_next_look(
    fake: FakeApiServer, certificate: OwnCertificate
) -> None:
    old: Any = dict(fake.documents[CONFIGURATION])
    fake.put(CONFIGURATION, dict(old))
    fake.faults.append((200, {**old, "metadata": {**old["metadata"], "resourceVersion": "0"}}))
    with pytest.raises(KubernetesError):
        await certificate.look()
    assert "caBundle" not in fake.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]
    await certificate.look()
    assert fake.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"]


def test_the_certificate_is_for_the_names_that_are_called() -> None:
    service = {"service": {"name": "webhook", "namespace": "irsa-sidecar", "path": "/inject"}}
    clients = [service, {"url": "https://hook.example:8443/inject"}, service]
    configuration = {"webhooks": [{"clientConfig": client} for client in clients]}
    assert names_of(configuration) == ["hook.example", "webhook.irsa-sidecar.svc"]
    with pytest.raises(KubernetesError, match="names no service and no url"):
        names_of({"webhooks": []})
