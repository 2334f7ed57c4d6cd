"""The webhook as `kubectl apply -k k8s/webhook` deploys it: with the rights of the manifests, and no more."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.applications import IMAGE, TOOLS_IMAGE, authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.prometheus import prometheus, rules_file
from tests.cluster.sts import REGION, ClusterSts, role_arn
from tests.cluster.waiting import wait_until
from tests.manifests import K8S, sidecar_of
from tests.monitoring import alerts

CONFIGURATION = "mutatingwebhookconfiguration/irsa-sidecar"
SECRET = "secret/irsa-sidecar-webhook"
ACCOUNT = "system:serviceaccount:irsa-sidecar:webhook"
ASKS = {"irsa-sidecar.io/inject": "true"}
BURST = 100


@pytest.fixture(scope="module")
def webhook(node: Cluster, sts: ClusterSts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Its namespace, once both replicas are ready."""
    folder = tmp_path_factory.mktemp("webhook")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(_overlay(folder, sts)))
    deployed = Namespace(node, "irsa-sidecar")
    try:
        applied = node.kubectl("apply", f"--kustomize={folder}", "--validate=strict")
        assert "Warning" not in applied.stderr
        deployed.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
        yield deployed
    finally:
        node.kubectl("delete", f"--kustomize={folder}", "--wait=false", "--ignore-not-found")


@pytest.fixture
def annotated(webhook: Namespace, namespace: Namespace) -> Namespace:
    """Where the ServiceAccount `app` names its role, as on EKS."""
    namespace.kubectl("annotate", "serviceaccount", "app", f"eks.amazonaws.com/role-arn={role_arn('app')}")
    return namespace


def test_a_deployment_with_the_label_has_credentials(annotated: Namespace, sts: ClusterSts) -> None:
    annotated.apply(_deployment(authored_spec(sts, program="tell(who_am_i())\nuntil_told_to_stop()")))
    name = _pod_of(annotated, "app=web")["metadata"]["name"]
    arn = f"arn:aws:sts::111122223333:assumed-role/app/{annotated.name}.{name}"
    assert arn in annotated.logged(name, "app", "arn:aws")
    assert sidecar_of(annotated.pod(name))["image"] == IMAGE


def test_a_wrong_annotation_is_refused_in_a_sentence(annotated: Namespace, sts: ClusterSts) -> None:
    done = _create(annotated, _pod(authored_spec(sts), annotations={"irsa-sidecar.io/duration": "5"}))
    assert "irsa-sidecar.io/duration" in done
    assert "900 to 43200" in done


def test_a_container_that_is_left_alone_is_an_event_of_its_owner(annotated: Namespace, sts: ClusterSts) -> None:
    spec = authored_spec(sts)
    own = {"name": "own", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAIOSFODNN7EXAMPLE"}]}
    spec["containers"].append(spec["containers"][0] | own)
    annotated.apply(_deployment(spec))

    def told() -> bool:
        events = annotated.get("events", "--field-selector=reason=ContainerLeftAlone")["items"]
        return [event["involvedObject"]["kind"] for event in events] == ["ReplicaSet"]

    wait_until(told, "the event")


def test_every_pod_of_a_burst_has_a_sidecar(annotated: Namespace, sts: ClusterSts) -> None:
    """No node takes them: what is tried is that they are made."""
    spec = authored_spec(sts) | {"restartPolicy": "Never", "nodeSelector": {"nowhere": ""}}
    template = {"metadata": {"labels": ASKS}, "spec": spec}
    job = {"parallelism": BURST, "completions": BURST, "template": template}
    annotated.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "burst"}, "spec": job})
    made: list[dict[str, Any]] = []

    def all_made() -> bool:
        made[:] = annotated.get("pods", "--selector=job-name=burst")["items"]
        return len(made) == BURST

    wait_until(all_made, "all of the burst")
    assert all(sidecar_of(pod)["image"] == IMAGE for pod in made)
    assert annotated.get("events", "--field-selector=reason=FailedCreate")["items"] == []


def test_it_may_read_no_secret_but_its_own(node: Cluster, webhook: Namespace) -> None:
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


def test_a_spoilt_certificate_is_made_anew_and_trusted(
    webhook: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    """Both by the rights that it has."""
    before = _authorities(webhook)
    webhook.kubectl("patch", SECRET, '--patch={"data": {"tls.crt": "eA=="}}')
    wait_until(lambda: _authorities(webhook) != before, "another authority")
    wait_until(lambda: "created" in _create(annotated, _pod(authored_spec(sts))), "a Pod that is let in")


def test_every_alert_finds_what_a_replica_tells_and_none_is_up(
    node: Cluster, webhook: Namespace, annotated: Namespace, sts: ClusterSts, tmp_path: Path
) -> None:
    (replica, *_) = webhook.get("pods")["items"]
    labels = {"namespace": webhook.name, "pod": replica["metadata"]["name"]}
    metrics = {name for query in alerts().values() for name in re.findall(r"irsa_sidecar_webhook_\w+", query)}
    assert len(metrics) >= 4
    address = f"{replica['status']['podIP']}:8080"
    with prometheus(node, rules_file(tmp_path), tmp_path, address, labels) as server:
        server.wait_for("count_over_time(irsa_sidecar_webhook_ready[1m]) > 5")
        assert [name for name in sorted(metrics) if not server.query(f"{name}{{pod=~'.+'}}")] == []
        assert server.query("irsa_sidecar_webhook_ready == 1")
        assert server.query('ALERTS{alertname=~"IrsaSidecarWebhook.*"}') == []


def test_it_was_refused_nothing(webhook: Namespace) -> None:
    told = webhook.kubectl("logs", "--selector=app.kubernetes.io/component=webhook", "--tail=-1").stdout
    assert "service_accounts_listed" in told
    assert "certificate_in_use" in told
    assert "forbidden" not in told


def test_it_needs_no_more_memory_than_it_asks_for(node: Cluster, webhook: Namespace) -> None:
    summary = json.loads(node.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary").stdout)
    found = [pod for pod in summary["pods"] if pod["podRef"]["namespace"] == webhook.name]
    used = [pod["containers"][0]["memory"]["workingSetBytes"] / 1024 / 1024 for pod in found]
    print("the webhook's working set, in MiB:", *(f"{mebibytes:.1f}" for mebibytes in used))
    assert len(used) == 2
    assert max(used) < 64


def test_without_it_pods_that_ask_are_refused_and_all_others_made(
    webhook: Namespace, annotated: Namespace, sts: ClusterSts
) -> None:
    webhook.kubectl("scale", "deployment/webhook", "--replicas=0")
    wait_until(lambda: not webhook.get("pods")["items"], "the end of both replicas")
    try:
        assert 'failed calling webhook "inject.irsa-sidecar.io"' in _create(annotated, _pod(authored_spec(sts)))
        assert "created" in _create(annotated, _pod(authored_spec(sts), labels={}))
    finally:
        webhook.kubectl("scale", "deployment/webhook", "--replicas=2")
    webhook.kubectl("rollout", "status", "deployment/webhook", "--timeout=120s")
    wait_until(lambda: "created" in _create(annotated, _pod(authored_spec(sts))), "a Pod that is let in again")


def _overlay(folder: Path, sts: ClusterSts) -> dict[str, Any]:
    """As a user's, with the images of this checkout and the STS of the tests."""
    base = Path("../" * (len(folder.parts) - 1), *(K8S / "webhook").parts[1:])  # kustomize wants a relative path
    name, _, tag = TOOLS_IMAGE.partition(":")
    endpoint = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-"}]
    endpoint[0]["value"] = f"--env=AWS_ENDPOINT_URL_STS={sts.url}"
    literals = [f"SIDECAR_IMAGE={IMAGE}", f"AWS_REGION={REGION}"]
    return {
        "resources": [str(base)],
        "images": [{"name": "irsa-sidecar", "newName": name, "newTag": tag}],
        "configMapGenerator": [
            {"name": "webhook", "namespace": "irsa-sidecar", "behavior": "merge", "literals": literals}
        ],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(endpoint)}],
    }


def _pod(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": ASKS} | metadata, "spec": spec}


def _deployment(spec: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web", **ASKS}}, "spec": spec}
    whole = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": whole}


def _create(namespace: Namespace, pod: dict[str, Any]) -> str:
    """What kubectl says of it, through admission and no further."""
    done = namespace.kubectl("create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(pod), check=False)
    return done.stdout + done.stderr


def _pod_of(namespace: Namespace, selector: str) -> dict[str, Any]:
    """The one Pod of it, once it is made."""
    found: list[dict[str, Any]] = []

    def made() -> bool:
        found[:] = namespace.get("pods", f"--selector={selector}")["items"]
        return bool(found)

    wait_until(made, f"a Pod of {selector}")
    return found[0]


def _authorities(webhook: Namespace) -> str:
    bundle: str = webhook.get(CONFIGURATION)["webhooks"][0]["clientConfig"]["caBundle"]
    return bundle
