"""Run a webhook with a fake API server for tests."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonpatch
import structlog
import trio
import trio.testing
import yaml

from sidecar.kubernetes.async_client import open_api
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.log import Logger
from sidecar.serving.listen import listen
from sidecar.webhook.run import Options, make_service
from sidecar.webhook.service import Service
from tests.support.fakes.api_server import FakeApiServer, kubeconfig
from tests.support.processes import GUARD_SECONDS
from tests.unit.injection.pods import ARN, SETTINGS, pod

CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/irsa-sidecar"
SECRET = "/api/v1/namespaces/shop/secrets/irsa-sidecar-webhook"
ACCOUNT = "/api/v1/namespaces/shop/serviceaccounts/cart"

LABEL = {"irsa-sidecar.io/inject": "true"}


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(GUARD_SECONDS):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)


def fill(api: FakeApiServer, version: str = "34") -> None:
    """Create the documents that an installed webhook needs."""
    api.documents["/version"] = {"major": "1", "minor": version, "gitVersion": f"v1.{version}.0"}
    put_configuration(api)
    put_service_account(api)


def put_configuration(api: FakeApiServer) -> None:
    webhook = {"name": "inject.irsa-sidecar.io", "clientConfig": {"url": "https://127.0.0.1:1/inject"}}
    api.put(
        CONFIGURATION,
        {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "irsa-sidecar"}, "webhooks": [webhook]},
    )


def put_service_account(api: FakeApiServer, path: str = ACCOUNT, role_arn: str | None = ARN) -> None:
    annotations = {"eks.amazonaws.com/role-arn": role_arn} if role_arn else {}
    namespace, _, name = path.split("/")[4:]
    api.put(
        path, {"kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace, "annotations": annotations}}
    )


def admission_review(found: Document | None = None, *, service_account: str = "cart", **request: Any) -> Document:
    """Return an AdmissionReview for the creation of a labelled Pod."""
    document = found or pod()
    document["metadata"].setdefault("labels", LABEL)
    document["spec"].setdefault("serviceAccountName", service_account)
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "shop",
            "object": document,
            **request,
        },
    }


def patched(found: Document, response: Document) -> Document:
    """Return the Pod after the API server applied the patch."""
    result: Document = jsonpatch.apply_patch(found, json.loads(base64.b64decode(response["response"]["patch"])))
    return result


class Webhook:
    """A webhook in this process. `events` is its log."""

    def __init__(self, service: Service, events: "Events", port: int, admin_port: int, api: FakeApiServer) -> None:
        self.service = service
        self.events = events
        self._port = port
        self._admin_port = admin_port
        self._api = api

    async def until_ready(self) -> None:
        for event in ("certificate_activated", "api_server_version_changed", "service_accounts_listed"):
            await self.events.logged(event)

    async def ask(self, document: Document, path: str = "/inject") -> httpx.Response:
        return await ask(self._api, self._port, document, path)

    async def admin(self, path: str, method: str = "GET") -> httpx.Response:
        async with httpx.AsyncClient(verify=_NO_TLS, trust_env=False, timeout=GUARD_SECONDS) as client:
            return await client.request(method, f"http://127.0.0.1:{self._admin_port}{path}")


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A TLS context for plain HTTP. Without this context, httpx reads all authorities of the machine."""


async def ask(api: FakeApiServer, port: int, document: Document, path: str = "/inject") -> httpx.Response:
    """
    Send the document to the webhook, and return the response.

    TLS trusts only the authorities in the configuration, as the API server does.
    """
    bundle = base64.b64decode(api.documents[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"])
    context = ssl.create_default_context(cadata=bundle.decode())
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=GUARD_SECONDS) as client:
        return await client.post(f"https://127.0.0.1:{port}{path}?timeout=10s", json=document)


class Events:
    """The log events of a webhook, in the order in which they were logged."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._more = trio.Event()
        self.log: Logger = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger("debug")
        )

    def of(self, event: str) -> list[Any]:
        return [line for line in self.lines if line["event"] == event]

    async def logged(self, event: str, *, times: int = 1) -> Any:
        with trio.fail_after(GUARD_SECONDS):
            while len(self.of(event)) < times:
                await self._more.wait()
        return self.of(event)[times - 1]

    def _keep(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        self.lines.append(event)
        self._more.set()
        self._more = trio.Event()
        raise structlog.DropEvent


OPTIONS = Options(
    settings=SETTINGS,
    native_sidecars="auto",
    listen=("127.0.0.1", 0),
    admin_listen=("127.0.0.1", 0),
    context=None,
    configuration="irsa-sidecar",
    secret="irsa-sidecar-webhook",
    mounted=None,
    drain_seconds=0,
    log_format="json",
    log_level="info",
)


def kubeconfig_file(api: FakeApiServer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    return {"KUBECONFIG": str(tmp_path / "kubeconfig")}


@asynccontextmanager
async def webhook(
    api: FakeApiServer, tmp_path: Path, options: Options = OPTIONS, patience: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[Webhook]:
    """Run a webhook on free ports. Its pauses before retries are the shortest possible."""
    events = Events()
    listeners, admin_listeners = listen("--listen", options.listen), listen("--admin-listen", options.admin_listen)
    async with open_api(find_cluster(kubeconfig_file(api, tmp_path))) as found, trio.open_nursery() as nursery:
        service = make_service(options, found, events.log)
        service.jitter = patience
        await nursery.start(service.serve, listeners, admin_listeners)
        port, admin_port = listeners[0].getsockname()[1], admin_listeners[0].getsockname()[1]
        yield Webhook(service, events, port, admin_port, api)
        service.stop.set()
