"""Test the webhook while a real API server denies some of its requests."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.cluster.applications import authored_spec
from tests.cluster.namespace import Namespace
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, CONFIGURATION, labelled_deployment, labelled_pod, pod_of, tried
from tests.support.manifests import SIDECAR

ROLE = "clusterrole/irsa-sidecar-webhook"


@pytest.fixture
def trimmed(webhook: Namespace) -> Iterator[Namespace]:
    """Remove permissions: the webhook may not list ServiceAccounts, create Events or change its configuration."""
    rules = webhook.get(ROLE)["rules"]
    left = [
        rule | {"verbs": [verb for verb in rule["verbs"] if verb in {"get", *_kept(rule)}]}
        for rule in rules
        if rule["resources"] != ["events"]
    ]
    _set_rules(webhook, left)
    webhook.kubectl("rollout", "restart", "deployment/webhook")
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
    wait_until(lambda: len(webhook.get("pods", COMPONENT)["items"]) == 2, "the removal of the previous replicas")
    yield webhook
    _set_rules(webhook, rules)


def test_webhook_reports_missing_permissions_and_continues(
    trimmed: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    spec = authored_spec(sts)
    own = {"name": "own", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAIOSFODNN7EXAMPLE"}]}
    spec["containers"].append(deepcopy(spec["containers"][0]) | own)
    annotated.apply(labelled_deployment(spec))
    assert SIDECAR in {each["name"] for each in pod_of(annotated, "app=web")["spec"]["initContainers"]}
    wait_until(lambda: "event_send_failed" in _log(trimmed), "the report of the denied Event")
    trimmed.kubectl(
        "patch", CONFIGURATION, "--type=json", '--patch=[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]'
    )
    wait_until(lambda: "certificate_update_failed" in _log(trimmed), "the report of the denied bundle")
    fix = "Grant the webhook that permission"
    output = {entry["event"]: entry["reason"] for entry in _entries(trimmed) if fix in str(entry)}
    assert {event: reason.partition(" cannot ")[2].split(" in ")[0] for event, reason in output.items()} == {
        "service_accounts_watch_ended": 'list resource "serviceaccounts"',
        "event_send_failed": 'create resource "events"',
        "certificate_update_failed": 'patch resource "mutatingwebhookconfigurations"',
    }


def test_webhook_recovers_when_permissions_are_restored(
    webhook: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    wait_until(lambda: "created" in tried(annotated, labelled_pod(authored_spec(sts))), "an admitted Pod")


def _kept(rule: dict[str, Any]) -> set[str]:
    return {"list", "watch"} if rule["resources"] == ["mutatingwebhookconfigurations"] else set()


def _set_rules(webhook: Namespace, rules: list[dict[str, Any]]) -> None:
    webhook.kubectl("patch", ROLE, "--type=merge", f"--patch={json.dumps({'rules': rules})}")


def _log(webhook: Namespace) -> str:
    return webhook.kubectl("logs", COMPONENT, "--tail=-1").stdout


def _entries(webhook: Namespace) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _log(webhook).splitlines() if line.startswith("{")]
