"""Test that Pods get credentials with only the policies, and that moves to the webhook and back reject no Pod."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.injection.settings import Settings
from tests.cluster.applications import IMAGE, authored_spec
from tests.cluster.cluster import Cluster
from tests.cluster.creations import creations
from tests.cluster.namespace import Namespace
from tests.cluster.policy import apply_policy, delete_policy, dry_run, installed_policy, policy_text
from tests.cluster.sts import REGION, ClusterSts, role_arn
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import (
    CONFIGURATION,
    ROLE,
    apply_webhook,
    authorities,
    deployed_webhook,
    labelled_deployment,
    labelled_pod,
    pod_of,
    write_kustomization,
)
from tests.support.manifests import sidecar_of

IGNORE = {
    "target": {"kind": "MutatingWebhookConfiguration"},
    "patch": json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
}
"""The patch of docs/policy.md, with which the API server admits Pods while the webhook is not ready yet."""


@pytest.fixture
def settings(sts: ClusterSts) -> Settings:
    """Return the settings of the policies, equal to those of the webhook in the tests."""
    return Settings(IMAGE, REGION, environment=(("AWS_ENDPOINT_URL_STS", sts.url),))


@pytest.fixture
def policy(node: Cluster, settings: Settings) -> Iterator[None]:
    with installed_policy(node, settings):
        yield


@pytest.mark.usefixtures("policy")
def test_labelled_deployment_has_credentials_without_a_webhook(
    node: Cluster, namespace: Namespace, sts: ClusterSts
) -> None:
    assert node.get("mutatingwebhookconfigurations")["items"] == []
    namespace.kubectl("annotate", "serviceaccount", "app", f"eks.amazonaws.com/role-arn={role_arn('app')}")
    namespace.apply(labelled_deployment(authored_spec(sts, program="report(who_am_i())\nuntil_stopped()")))
    name = pod_of(namespace, "app=web")["metadata"]["name"]
    arn = f"arn:aws:sts::111122223333:assumed-role/app/{namespace.name}.{name}"
    assert arn in namespace.logged(name, "app", "arn:aws")
    assert sidecar_of(namespace.pod(name))["image"] == IMAGE


@pytest.mark.usefixtures("policy")
def test_job_completes_with_a_sidecar_of_the_policy(namespace: Namespace, sts: ClusterSts) -> None:
    spec = authored_spec(sts, program="report(who_am_i())") | {"restartPolicy": "Never"}
    template = {"metadata": {"labels": {"irsa-sidecar.io/inject": "true"}, "annotations": ROLE}, "spec": spec}
    job = {"backoffLimit": 0, "template": template}
    namespace.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": job})
    namespace.kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=300s")


@pytest.mark.usefixtures("policy")
def test_moves_between_webhook_and_policy_reject_no_pod(
    node: Cluster, namespace: Namespace, sts: ClusterSts, settings: Settings, tmp_path: Path
) -> None:
    """Move from the policies to the webhook and back, while Pods are created without a pause."""
    pod, text = labelled_pod(authored_spec(sts), annotations=ROLE), policy_text(node, settings)
    first, strict = (tmp_path / name for name in ("first", "strict"))
    for folder in (first, strict):
        folder.mkdir()
    with (
        creations(node, namespace, pod, tmp_path) as created,
        deployed_webhook(node, sts, first, patches=[IGNORE]) as deployed,
    ):
        wait_until(lambda: authorities(deployed), "the caBundle")
        created.wait_for_more()
        apply_webhook(deployed, write_kustomization(strict, sts))
        created.wait_for_more()
        delete_policy(node, text)
        created.wait_for_more(400)
        assert created.failed == [], "the move to the webhook rejected Pods"
        apply_policy(node, text)
        # The webhook ignores its own namespace, and the policies do not.
        own = labelled_pod(authored_spec(sts) | {"serviceAccountName": "default"}, annotations=ROLE)
        wait_until(lambda: "initContainers" in str(dry_run(deployed, own)), "the policies' effect")
        created.wait_for_more()
        node.kubectl("delete", CONFIGURATION)
        created.wait_for_more(400)
        assert created.failed == [], "the move to the policies rejected Pods"
