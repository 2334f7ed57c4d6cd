"""Test the whole webhook over TLS, with a fake API server."""

import base64
import os
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.injection.inject import inject
from sidecar.injection.settings import ServiceAccount
from sidecar.serving.http_message import Request
from sidecar.webhook.certificate import ca_rollover as trust
from sidecar.webhook.certificate.issue import BACKDATED, CERTIFICATE_LIFETIME, renewed, to_secret
from sidecar.webhook.certificate.mounted import MountedCertificate
from sidecar.webhook.run import _stop_on_signal
from tests.support.fakes.api_server import FakeApiServer
from tests.support.processes import GUARD_SECONDS, started
from tests.unit.injection.pods import ARN, SETTINGS, pod
from tests.unit.webhook.cluster import (
    CONFIGURATION,
    OPTIONS,
    SECRET,
    admission_review,
    ask,
    fill,
    kubeconfig_file,
    patched,
    put_configuration,
    put_service_account,
    webhook,
)


async def test_pod_is_injected_over_trusted_tls(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        review = admission_review()
        response = (await hook.ask(review)).json()
        assert response["response"]["uid"] == "u-1"
        service_account = ServiceAccount("shop", "cart", {"eks.amazonaws.com/role-arn": ARN})
        assert (
            patched(review["request"]["object"], response)
            == inject(review["request"]["object"], service_account, SETTINGS).pod
        )
        entry = await hook.events.logged("pod_injected")
        assert (entry["namespace"], entry["pod"]) == ("shop", "cart-0")
        scraped = (await hook.admin("/metrics")).text
        assert 'irsa_sidecar_webhook_reviews_total{outcome="injected"} 1' in scraped
        assert "irsa_sidecar_webhook_ready 1\n" in scraped
        certificate = "irsa_sidecar_webhook_certificate_{}_timestamp_seconds ([0-9.]+)"
        begins_at, expires_at = (
            float(found)
            for name in ("not_before", "expiration")
            for found in re.findall(certificate.format(name), scraped)
        )
        assert expires_at - begins_at == (CERTIFICATE_LIFETIME + BACKDATED).total_seconds()
        assert (await hook.admin("/readyz")).status_code == (await hook.admin("/livez")).status_code == 200


async def test_process_responds_until_a_signal_stops_it(api: FakeApiServer, tmp_path: Path) -> None:
    flags = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-seconds=0", "--log-format=json"]
    command = [sys.executable, "-m", "sidecar", "webhook", "--image=x:1", "--region=eu-west-1", *flags]
    environment = {**os.environ, **kubeconfig_file(api, tmp_path), "NO_PROXY": "127.0.0.1"}
    async with started(command, environment) as running:
        port, _ = (await running.logged("started"))["ports"]
        await running.logged("certificate_activated")
        assert (await ask(api, port, admission_review())).json()["response"]["allowed"] is True
        assert await running.stop(signal.SIGTERM) == 0
        await running.logged("stopped")


async def test_draining_webhook_is_not_ready_but_responds(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        await nursery.start(_stop_on_signal, hook.service, 600)
        os.kill(os.getpid(), signal.SIGTERM)
        await hook.events.logged("stopping")
        assert ((await hook.admin("/readyz")).status_code, (await hook.admin("/readyz")).text) == (503, "stopping\n")
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        assert not hook.service.stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(GUARD_SECONDS):
            await hook.service.stop.wait()
        nursery.cancel_scope.cancel()


async def test_role_that_is_added_later_is_found(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        denied = (await hook.ask(admission_review(service_account="late"))).json()["response"]
        assert denied["allowed"] is False
        assert "There is no role" in denied["status"]["message"]
        put_service_account(api, "/api/v1/namespaces/shop/serviceaccounts/late", None)
        assert (
            "ServiceAccount shop/late"
            in (await hook.ask(admission_review(service_account="late"))).json()["response"]["status"]["message"]
        )
        put_service_account(api, "/api/v1/namespaces/shop/serviceaccounts/late")
        assert (await hook.ask(admission_review(service_account="late"))).json()["response"]["allowed"] is True


@pytest.mark.parametrize("name", ["eks.amazon.com/role-arn", "eks.amazonaws.com/role_arn", "irsa-sidecar.io/role-arn"])
async def test_misspelt_service_account_annotation_is_reported(api: FakeApiServer, tmp_path: Path, name: str) -> None:
    path = "/api/v1/namespaces/shop/serviceaccounts/typo"
    metadata = {"name": "typo", "namespace": "shop", "annotations": {"a": "b", name: ARN}}
    api.put(path, {"kind": "ServiceAccount", "metadata": metadata})
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        message = (await hook.ask(admission_review(service_account="typo"))).json()["response"]["status"]["message"]
        assert message.endswith(
            f"ServiceAccount shop/typo has {name}, which is not read. Did you mean eks.amazonaws.com/role-arn?"
        )


async def test_pod_is_denied_if_the_api_server_returns_an_error(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        await hook.events.logged("service_accounts_listed")
        api.broken["/api/v1/namespaces/shop/serviceaccounts/other"] = (500, {"message": "etcd is full"})
        response = (await hook.ask(admission_review(service_account="other"))).json()["response"]
        assert response["status"]["code"] == 503
        assert "etcd is full" in response["status"]["message"]
        # A ServiceAccount that the watch knows needs no request.
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        assert "irsa_sidecar_webhook_watch_active 1\n" in (await hook.admin("/metrics")).text


async def test_webhook_is_ready_without_a_watch(api: FakeApiServer, tmp_path: Path) -> None:
    api.broken["/api/v1/serviceaccounts"] = (403, {"message": "not a list"})
    async with webhook(api, tmp_path) as hook:
        for event in ("certificate_activated", "api_server_version_changed", "service_accounts_watch_ended"):
            await hook.events.logged(event)
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        assert "irsa_sidecar_webhook_watch_active 0\n" in (await hook.admin("/metrics")).text


async def test_removed_ca_bundle_is_restored_at_once(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        put_configuration(api)
        await hook.events.logged("ca_bundle_updated", times=2)
        assert (await hook.ask(admission_review())).status_code == 200


async def test_replicas_share_one_certificate(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "SETTLED_SECONDS", 0.0)
    (tmp_path / "b").mkdir()
    async with webhook(api, tmp_path) as one, webhook(api, tmp_path / "b") as other:
        for hook in (one, other):
            await hook.until_ready()
        assert (
            (await one.ask(admission_review())).status_code == (await other.ask(admission_review())).status_code == 200
        )
        assert [each for hook in (one, other) for each in hook.events.of("certificate_renewed")]
        before = api.documents[SECRET]["data"]["tls.crt"]
        # After the Secret is deleted, both replicas serve the same new certificate.
        api.remove(SECRET)
        for hook in (one, other):
            await hook.events.logged("certificate_activated", times=2)
        assert api.documents[SECRET]["data"]["tls.crt"] != before
        assert (
            (await one.ask(admission_review())).status_code == (await other.ask(admission_review())).status_code == 200
        )


async def test_cluster_with_an_old_api_server_gets_plain_sidecars(api: FakeApiServer, tmp_path: Path) -> None:
    fill(api, "28")
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        review = admission_review()
        result = patched(review["request"]["object"], (await hook.ask(review)).json())
        assert [each["name"] for each in result["spec"]["containers"]] == ["irsa-sidecar", "app"]
        denied = (await hook.ask(admission_review(pod(restartPolicy="Never")))).json()["response"]
        assert "before Kubernetes 1.29 it would never complete with a sidecar" in denied["status"]["message"]


async def test_operator_can_choose_plain_sidecars(api: FakeApiServer, tmp_path: Path) -> None:
    fill(api, "30")
    async with webhook(api, tmp_path, OPTIONS._replace(native_sidecars="never")) as hook:
        await hook.until_ready()
        review = admission_review()
        result = patched(review["request"]["object"], (await hook.ask(review)).json())
        assert [each["name"] for each in result["spec"]["containers"]] == ["irsa-sidecar", "app"]
        shown = await hook.events.logged("api_server_version_changed")
        assert (shown["version"], shown["native_sidecars"]) == ("v1.30.0", False)
        assert shown["reason"] == "--native-sidecars never"


async def test_warning_becomes_an_event_of_the_owner(api: FakeApiServer, tmp_path: Path) -> None:
    own = {"name": "own", "image": "i", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-1", "uid": "u", "controller": True}

    def owned_pod() -> dict[str, Any]:
        found = pod({"name": "app", "image": "i"}, own)
        found["metadata"] = {"generateName": "cart-1-", "ownerReferences": [owner]}
        return found

    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        for is_dry_run in (True, False, False):
            response = (await hook.ask(admission_review(owned_pod(), dryRun=is_dry_run))).json()["response"]
            assert "own gets no credentials" in response["warnings"][0]
        await hook.events.logged("event_sent")
        event = api.documents["/api/v1/namespaces/shop/events/irsa-sidecar-x"]
        assert event["involvedObject"]["name"] == "cart-1"
        assert "own gets no credentials" in event["message"]
        assert sum(target.startswith("/api/v1/namespaces/shop/events") for _, target in api.requests) == 1


async def test_malformed_owners_do_not_affect_the_response(api: FakeApiServer, tmp_path: Path) -> None:
    review = admission_review()
    review["request"]["object"]["metadata"]["ownerReferences"] = 1.5
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        assert (await hook.ask(review)).json()["response"]["allowed"] is True


async def test_readiness_response_names_the_missing_parts(api: FakeApiServer, tmp_path: Path) -> None:
    api.remove(CONFIGURATION)
    api.documents.pop("/version")
    async with webhook(api, tmp_path) as hook:
        await hook.events.logged("certificate_update_failed")
        response = await hook.admin("/readyz")
        assert response.status_code == 503
        assert "There is no MutatingWebhookConfiguration irsa-sidecar. Apply the manifests." in response.text
        assert "version" in response.text
        assert (await hook.admin("/livez")).status_code == 200
        assert "irsa_sidecar_webhook_ready 0\n" in (await hook.admin("/metrics")).text
        fill(api)
        await hook.until_ready()


async def test_mounted_certificate_is_used_and_reloaded(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as first:
        await first.until_ready()
        data = api.documents[SECRET]["data"]
    files = {name: tmp_path / name for name in ("tls.crt", "tls.key")}
    for name, path in files.items():
        path.write_bytes(base64.b64decode(data[name]))
    options = OPTIONS._replace(mounted=(str(files["tls.crt"]), str(files["tls.key"])))
    async with webhook(api, tmp_path, options) as hook:
        await hook.until_ready()
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        assert not hook.events.of("certificate_renewed")
        certificate = hook.service.certificate
        assert isinstance(certificate, MountedCertificate)
        in_use = hook.service.tls.context
        await certificate.check()
        assert hook.service.tls.context is in_use
        files["tls.crt"].write_text("torn")
        for _ in range(2):
            await certificate.check()
        assert len(hook.events.of("certificate_rejected")) == 1
        assert hook.service.tls.context is in_use
        following = renewed(None, ["127.0.0.1"], datetime.now(UTC))
        for name, path in files.items():
            path.write_bytes(to_secret(following)[name])
        await certificate.check()
        assert hook.service.tls.context is not in_use


async def test_other_paths_methods_and_bodies_are_rejected(api: FakeApiServer, tmp_path: Path) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        assert (await hook.ask(admission_review(), "/elsewhere")).status_code == 404
        wrong = await hook.ask({"kind": "Status"})
        assert (wrong.status_code, "not an AdmissionReview" in wrong.text) == (400, True)
        for method in ("GET", "HEAD", "PUT"):
            shown = await hook.service.respond(Request(method, "/inject"))
            assert (shown.status, shown.headers) == (405, (("Allow", "POST"),))
        assert (await hook.admin("/livez", "HEAD")).status_code == 200
        posted = await hook.admin("/metrics", "POST")
        assert (posted.status_code, posted.headers["Allow"]) == (405, "GET, HEAD")
        assert (await hook.admin("/elsewhere")).status_code == 404
        passed = (await hook.ask(admission_review(operation="UPDATE"))).json()["response"]
        assert passed == {"uid": "u-1", "allowed": True}
