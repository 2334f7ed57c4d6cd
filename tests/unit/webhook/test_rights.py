"""Test the webhook without one permission of k8s/webhook/rbac.yaml: it reports the permission and continues."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.webhook.certificate.issue import renewed, to_secret
from tests.support.fakes.api_server import FakeApiServer
from tests.support.manifests import read
from tests.unit.injection.pods import pod
from tests.unit.webhook.cluster import SECRET, admission_review, webhook

CONFIGURATIONS = "mutatingwebhookconfigurations"


class Without(NamedTuple):
    """The expected result without a permission: the log event, the readiness, and whether the Pod is allowed."""

    event: str
    is_ready: bool = True
    is_allowed: bool = True


NOT_READY = Without("certificate_update_failed", is_ready=False)

RIGHTS = {
    ("get", "serviceaccounts"): Without("pod_denied_temporarily", is_allowed=False),
    ("list", "serviceaccounts"): Without("service_accounts_watch_ended"),
    ("watch", "serviceaccounts"): Without("service_accounts_watch_ended"),
    ("create", "events"): Without("event_send_failed"),
    ("get", CONFIGURATIONS): NOT_READY,
    ("list", CONFIGURATIONS): Without("certificate_watch_ended"),
    ("watch", CONFIGURATIONS): Without("certificate_watch_ended"),
    ("patch", CONFIGURATIONS): NOT_READY,
    ("get", "secrets"): NOT_READY,
    ("list", "secrets"): Without("certificate_watch_ended"),
    ("watch", "secrets"): Without("certificate_watch_ended"),
    ("create", "secrets"): NOT_READY,
    ("update", "secrets"): Without("certificate_renewal_failed"),
}


def test_table_contains_each_permission_of_the_manifest() -> None:
    roles = [document for document in read("webhook/rbac.yaml") if document["kind"] in {"Role", "ClusterRole"}]
    rules = [rule for role in roles for rule in role["rules"]]
    assert {(verb, rule["resources"][0]) for rule in rules for verb in rule["verbs"]} == set(RIGHTS)


@pytest.mark.parametrize("right", RIGHTS, ids=" ".join)
async def test_missing_permission_is_named_with_its_manifest(
    api: FakeApiServer, tmp_path: Path, right: tuple[str, str]
) -> None:
    without = RIGHTS[right]
    api.forbidden.add(right)
    if right == ("get", "serviceaccounts"):
        api.forbidden.add(("list", "serviceaccounts"))  # because the watch would otherwise know the ServiceAccount
    if right == ("update", "secrets"):
        put_due_certificate(api)
    async with webhook(api, tmp_path) as hook:
        await hook.events.logged("api_server_version_changed")
        if without.is_ready:
            await hook.events.logged("certificate_activated")
            response = (await hook.ask(admission_review(pod_that_causes_an_event()))).json()["response"]
            assert response["allowed"] is without.is_allowed
            shown = response.get("status", {}).get("message", "")
        else:
            await hook.events.logged(without.event)
            shown = (await hook.admin("/readyz")).text
        reason = (await hook.events.logged(without.event))["reason"]
        assert 'cannot {} resource "{}" in API group "'.format(*right) in reason
        assert "Grant the webhook that permission: k8s/webhook/rbac.yaml contains " in reason
        assert (await hook.admin("/readyz")).status_code == (200 if without.is_ready else 503)
        assert (without.is_ready and without.is_allowed) or reason in shown


def put_due_certificate(api: FakeApiServer) -> None:
    """Store a certificate that is 61 days old. Its renewal is due, and it is valid for another month."""
    data = to_secret(renewed(None, ["127.0.0.1"], datetime.now(UTC) - timedelta(days=61)))
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    api.put(SECRET, {"kind": "Secret", "metadata": {"name": "irsa-sidecar-webhook"}, "data": encoded})


def pod_that_causes_an_event() -> dict[str, object]:
    """Return a Pod with an owner, whose container sets a variable that causes a warning."""
    own = {"name": "own", "image": "i", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}
    found = pod({"name": "app", "image": "i"}, own)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-1", "uid": "u", "controller": True}
    found["metadata"] = {"generateName": "cart-1-", "ownerReferences": [owner]}
    return found
