"""Test the webhook as `kubectl apply -k k8s/webhook` deploys it, with only the permissions of the manifests."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.applications import IMAGE, authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.prometheus import prometheus, rules_file
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import (
    CONFIGURATION,
    INJECT_LABEL,
    SECRET,
    authorities,
    labelled_deployment,
    labelled_pod,
    pod_of,
    tried,
)
from tests.support.manifests import sidecar_of
from tests.support.monitoring import alerts, as_chosen, panel_queries

ACCOUNT = "system:serviceaccount:irsa-sidecar:webhook"
BURST = 100
TOGETHER = 16
"""The number of Pods that a machine with two cores starts in half a minute."""


@pytest.mark.core
def test_labelled_deployment_has_credentials(annotated: Namespace, sts: ClusterSts) -> None:
    annotated.apply(labelled_deployment(authored_spec(sts, program="report(who_am_i())\nuntil_stopped()")))
    name = pod_of(annotated, "app=web")["metadata"]["name"]
    arn = f"arn:aws:sts::111122223333:assumed-role/app/{annotated.name}.{name}"
    assert arn in annotated.logged(name, "app", "arn:aws")
    assert sidecar_of(annotated.pod(name))["image"] == IMAGE


@pytest.mark.core
def test_wrong_annotation_is_rejected_with_a_message(annotated: Namespace, sts: ClusterSts) -> None:
    done = tried(annotated, labelled_pod(authored_spec(sts), annotations={"irsa-sidecar.io/duration": "5"}))
    assert "irsa-sidecar.io/duration" in done
    assert "900 to 43200" in done


@pytest.mark.core
def test_guaranteed_pod_keeps_its_class_and_starts_the_sidecar(annotated: Namespace, sts: ClusterSts) -> None:
    spec = authored_spec(sts, program="report(who_am_i())\nuntil_stopped()")
    spec["containers"][0]["resources"] = {"limits": {"cpu": "500m", "memory": "128Mi"}}
    annotated.apply(labelled_pod(spec))
    assert "assumed-role/app/" in annotated.logged("web", "app", "arn:aws")
    found = annotated.pod("web")
    assert found["status"]["qosClass"] == "Guaranteed"
    assert sidecar_of(found)["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}
    assert found["status"]["initContainerStatuses"][0]["restartCount"] == 0


def test_other_label_values_are_rejected_except_false(annotated: Namespace, sts: ClusterSts) -> None:
    """Check that the API server calls the webhook for `yes`. A selector for `true` would prevent the call."""
    refused = tried(annotated, labelled_pod(authored_spec(sts), labels={"irsa-sidecar.io/inject": "yes"}))
    assert "irsa-sidecar.io/inject is 'yes'" in refused
    annotated.apply(labelled_pod(authored_spec(sts), labels={"irsa-sidecar.io/inject": "false"}))
    assert [each["name"] for each in annotated.pod("web")["spec"].get("initContainers", ())] == []


def test_container_with_own_keys_causes_an_event_of_the_owner(annotated: Namespace, sts: ClusterSts) -> None:
    spec = authored_spec(sts)
    own = {"name": "own", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAIOSFODNN7EXAMPLE"}]}
    spec["containers"].append(spec["containers"][0] | own)
    annotated.apply(labelled_deployment(spec))

    def output() -> bool:
        events = annotated.get("events", "--field-selector=reason=ContainerLeftAlone")["items"]
        return [event["involvedObject"]["kind"] for event in events] == ["ReplicaSet"]

    wait_until(output, "the event")


def test_every_pod_of_a_burst_has_a_sidecar(annotated: Namespace, sts: ClusterSts) -> None:
    """Create Pods that no node runs, because only their creation matters."""
    spec = authored_spec(sts) | {"restartPolicy": "Never", "nodeSelector": {"nowhere": ""}}
    template = {"metadata": {"labels": INJECT_LABEL}, "spec": spec}
    job = {"parallelism": BURST, "completions": BURST, "template": template}
    annotated.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "burst"}, "spec": job})

    def all_made() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = annotated.get("pods", "--selector=job-name=burst")["items"]
        return found if len(found) == BURST else []

    assert all(sidecar_of(pod)["image"] == IMAGE for pod in wait_until(all_made, "all Pods of the burst"))
    assert annotated.get("events", "--field-selector=reason=FailedCreate")["items"] == []


def test_pods_that_start_together_all_have_credentials(annotated: Namespace, sts: ClusterSts) -> None:
    spec = authored_spec(sts, program="report(who_am_i())") | {"restartPolicy": "Never"}
    template = {"metadata": {"labels": INJECT_LABEL}, "spec": spec}
    job = {"parallelism": TOGETHER, "completions": TOGETHER, "backoffLimit": 0, "template": template}
    annotated.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "together"}, "spec": job})
    annotated.kubectl("wait", "--for=condition=Complete", "job/together", "--timeout=300s")
    names = [pod["metadata"]["name"] for pod in annotated.get("pods", "--selector=job-name=together")["items"]]
    assert len(names) == TOGETHER
    for name in names:
        assert f"assumed-role/app/{annotated.name}.{name}\n" in annotated.logs(name, "app")
    ended = [run for run in sts.events("exchange_granted") if f"/{annotated.name}." in run["arn"]]
    assert len(ended) == TOGETHER


def test_webhook_has_permissions_only_for_its_own_objects(node: Cluster, webhook: Namespace) -> None:
    def may(*what: str) -> bool:
        return node.kubectl("auth", "can-i", *what, f"--as={ACCOUNT}", check=False).stdout.strip() == "yes"

    own = ("--namespace=irsa-sidecar",)
    assert may("update", SECRET, *own)
    assert not may("get", "secrets/another", *own)
    assert not may("list", "secrets", *own)
    assert not may("get", SECRET, "--namespace=default")
    assert may("patch", CONFIGURATION)
    assert not may("patch", "mutatingwebhookconfiguration/another")
    assert not may("list", "pods", "--all-namespaces")


def test_damaged_certificate_is_replaced_and_trusted(webhook: Namespace, annotated: Namespace, sts: ClusterSts) -> None:
    """Check that the webhook has the permissions to replace the certificate and to publish the new CA."""
    before = authorities(webhook)
    webhook.kubectl("patch", SECRET, '--patch={"data": {"tls.crt": "eA=="}}')
    wait_until(lambda: authorities(webhook) != before, "another CA")
    wait_until(lambda: "created" in tried(annotated, labelled_pod(authored_spec(sts))), "an admitted Pod")


def test_alerts_and_panels_find_the_metrics_of_replicas(
    node: Cluster, webhook: Namespace, annotated: Namespace, sts: ClusterSts, tmp_path: Path
) -> None:
    """Check both replicas. The API server keeps its connection to one replica, so the other replica gets no reviews."""
    pods = {
        f"{replica['status']['podIP']}:8080": {"namespace": webhook.name, "pod": replica["metadata"]["name"]}
        for replica in webhook.get("pods")["items"]
    }
    metrics = {name for query in alerts("webhook").values() for name in re.findall(r"irsa_sidecar_webhook_\w+", query)}
    assert len(metrics) >= 5
    with prometheus(node, rules_file(tmp_path), tmp_path, pods) as server:
        server.wait_for("count_over_time(irsa_sidecar_webhook_ready[1m]) > 5")
        requested = "increase(irsa_sidecar_webhook_review_duration_seconds_count[10s]) > 0"
        pod = labelled_pod(authored_spec(sts))
        wait_until(lambda: "created" in tried(annotated, pod) and bool(server.query(requested)), "a review in a scrape")
        assert [title for title, query in panel_queries("webhook") if not server.query(as_chosen(query))] == []
        assert [name for name in sorted(metrics) if not server.query(f"{name}{{pod=~'.+'}}")] == []
        assert server.query("irsa_sidecar_webhook_ready == 1")
        for of_certificate in (query for query in alerts("webhook").values() if "not_before" in query):
            assert server.query(of_certificate.replace("<", ">"))
        assert server.query('ALERTS{alertname=~"IrsaSidecarWebhook.*"}') == []


@pytest.mark.core
def test_webhook_has_all_necessary_permissions(webhook: Namespace) -> None:
    output = webhook.kubectl("logs", "--selector=app.kubernetes.io/component=webhook", "--tail=-1").stdout
    assert "service_accounts_listed" in output
    assert "certificate_activated" in output
    assert "forbidden" not in output


def test_webhook_needs_at_most_its_memory_request(node: Cluster, webhook: Namespace) -> None:
    summary = json.loads(node.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary").stdout)
    found = [pod for pod in summary["pods"] if pod["podRef"]["namespace"] == webhook.name]
    used = [pod["containers"][0]["memory"]["workingSetBytes"] / 1024 / 1024 for pod in found]
    print("the webhook's working set, in MiB:", *(f"{mebibytes:.1f}" for mebibytes in used))
    assert len(used) == 2
    assert max(used) < 64


def test_without_the_webhook_only_labelled_pods_are_rejected(
    webhook: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    webhook.kubectl("scale", "deployment/webhook", "--replicas=0")
    wait_until(lambda: not webhook.get("pods")["items"], "the removal of both replicas")
    try:
        assert 'failed calling webhook "inject.irsa-sidecar.io"' in tried(annotated, labelled_pod(authored_spec(sts)))
        assert "created" in tried(annotated, labelled_pod(authored_spec(sts), labels={}))
    finally:
        webhook.kubectl("scale", "deployment/webhook", "--replicas=2")
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
    wait_until(
        lambda: "created" in tried(annotated, labelled_pod(authored_spec(sts))), "an admitted Pod after the outage"
    )
