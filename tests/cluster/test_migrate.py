"""
Move workloads with `setup migrate` on a real API server, with the policies of `setup policy` and a fake of EKS.

The images of the Pods do not exist, so the Pods never run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from sidecar.injection.names import EKS_ROLE_ARN, INJECT_LABEL
from sidecar.setup.migration import KUBE2IAM_ROLE
from sidecar.setup.migration_facts import has_pod_identity, has_sidecar
from tests.cluster.aws_proxy import AwsProxy, aws_proxy
from tests.cluster.cluster import Cluster
from tests.cluster.eks_webhook import eks_webhook
from tests.cluster.inner_listener import listener_inside
from tests.cluster.layout import ISSUER
from tests.cluster.namespace import Namespace, new_namespace
from tests.cluster.policy import installed_policy
from tests.cluster.waiting import wait_until
from tests.support.fakes.moto_server import ACCOUNT_ID, moto_server
from tests.unit.injection import pods

ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/cart"
KINDS = ("deployment", "statefulset", "daemonset", "cronjob")
BINDING = "mutatingadmissionpolicybinding/irsa-sidecar"

CONTAINER = {
    "name": "cart",
    "image": "registry.example.com/cart:1.0",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}
"""A container of the strictest Pod Security level. In the StatefulSet, its volume comes from a claim template."""

POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
LABELS = {"app": "cart"}


@pytest.fixture(scope="module")
def policies(cluster: Cluster) -> Iterator[Cluster]:
    with installed_policy(cluster, pods.SETTINGS):
        yield cluster


class Shop:
    """A namespace whose workloads use the ServiceAccount `cart`, the role `cart`, and a working directory."""

    def __init__(self, namespace: Namespace, cluster: Cluster, aws: AwsProxy, folder: Path) -> None:
        self.namespace, self._cluster, self.aws, self._folder = namespace, cluster, aws, folder
        self.iam, self.eks = (self._client(name) for name in ("iam", "eks"))
        self.eks.create_cluster(name="shop", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={})
        self.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
        nodes = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = {"Version": "2012-10-17", "Statement": [nodes]}
        self.iam.create_role(RoleName="cart", AssumeRolePolicyDocument=json.dumps(document))

    def _client(self, service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.aws.target,
            region_name="eu-west-1",
            aws_access_key_id="AKIAFAKE",
            aws_secret_access_key="secret",
        )

    def close(self) -> None:
        for client in (self.iam, self.eks):
            client.close()

    def deploy(self, *, account: Mapping[str, str] | None = None, pods: Mapping[str, str] | None = None) -> None:
        """Create one workload of each kind, with annotations of the ServiceAccount and of the Pods."""
        metadata = {"name": "cart", "annotations": dict(account or {})}
        service_account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        pod = {
            "metadata": {"labels": LABELS, "annotations": dict(pods or {})},
            "spec": self._pod_spec([{"name": "data"}]),
        }
        claimed = {**pod, "spec": self._pod_spec([])}
        job = {**pod, "spec": {**pod["spec"], "restartPolicy": "Never"}}
        selector = {"selector": {"matchLabels": LABELS}}
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        claims = [{"metadata": {"name": "data"}, "spec": claim}]
        self.namespace.apply(
            service_account,
            _workload("apps/v1", "Deployment", {**selector, "template": pod, "strategy": {"type": "Recreate"}}),
            _workload("apps/v1", "StatefulSet", {**selector, "template": claimed, "volumeClaimTemplates": claims}),
            _workload("apps/v1", "DaemonSet", {**selector, "template": pod}),
            _workload("batch/v1", "CronJob", {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": job}}}),
        )
        wait_until(self.pods, "the first Pods")

    @staticmethod
    def _pod_spec(volumes: list[dict[str, Any]]) -> dict[str, Any]:
        volumes = [{**each, "emptyDir": {}} for each in volumes]
        return {
            "serviceAccountName": "cart",
            "securityContext": POD_SECURITY,
            "containers": [CONTAINER],
            "volumes": volumes,
        }

    def migrate(
        self, source: str, target: str, *flags: str, cluster: str = "shop"
    ) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_SIDECAR_"))}
        environment = kept | {
            "AWS_ACCESS_KEY_ID": "AKIAFAKE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": self.aws.url,
            "HOME": str(self._folder),
            "KUBECONFIG": str(self._cluster.kubeconfig),
        }
        arguments = (f"--from={source}", f"--to={target}", f"--namespace={self.namespace.name}", f"--cluster={cluster}")
        command = [*self._cluster.inside(), sys.executable, "-m", "sidecar", "setup", "migrate", *arguments, *flags]
        done = subprocess.run(command, env=environment, cwd=self._folder, capture_output=True, text=True, check=False)
        print(done.args, done.stdout, done.stderr)
        return done

    def templates(self) -> list[Any]:
        found = []
        for kind in KINDS:
            spec = self.namespace.get(kind, "cart")["spec"]
            template = (spec.get("jobTemplate", {}).get("spec") or spec)["template"]["metadata"]
            found.append((template.get("labels"), template.get("annotations") or {}))
        return found

    def state(self) -> Any:
        """Return everything that a migration may change."""
        role = self.iam.get_role(RoleName="cart")["Role"]["AssumeRolePolicyDocument"]["Statement"]
        return [role, self.associations(), self.annotations(), self.templates()]

    def annotations(self) -> Any:
        return self.namespace.get("serviceaccount", "cart")["metadata"].get("annotations") or {}

    def associations(self) -> list[str]:
        listed = self.eks.list_pod_identity_associations(clusterName="shop", namespace=self.namespace.name)
        return [each["serviceAccount"] for each in listed["associations"]]

    def has_association(self, namespace: str, service_account: str) -> bool:
        return namespace == self.namespace.name and service_account in self.associations()

    def pods(self) -> list[Any]:
        return [each["spec"] for each in self.namespace.get("pods")["items"]]

    def replace_pods(self) -> None:
        """Delete all Pods, and wait until the controllers have created new Pods. Without a node nothing runs."""
        before = {each["metadata"]["uid"] for each in self.namespace.get("pods")["items"]}
        self.namespace.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")

        def is_replaced() -> bool:
            found = {each["metadata"]["uid"] for each in self.namespace.get("pods")["items"]}
            return bool(found) and not found & before

        wait_until(is_replaced, "the new Pods")


def _workload(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "cart"}, "spec": spec}


@pytest.fixture
def shop(policies: Cluster, tmp_path: Path) -> Iterator[Shop]:
    with (
        new_namespace(policies) as namespace,
        moto_server(ISSUER=ISSUER) as moto,
        aws_proxy(moto.url, listener_inside(policies)) as aws,
    ):
        found = Shop(namespace, policies, aws, tmp_path)
        yield found
        found.close()


def test_pods_move_from_pod_identity_to_the_sidecar_and_back(shop: Shop, policies: Cluster) -> None:
    with eks_webhook(policies, shop.has_association):
        associated = {"clusterName": "shop", "namespace": shop.namespace.name, "serviceAccount": "cart", "roleArn": ARN}
        shop.eks.create_pod_identity_association(**associated)
        shop.deploy()
        before = shop.state()
        assert shop.migrate("pod-identity", "sidecar", "--dry-run").returncode == 0
        assert shop.state() == before

        done = shop.migrate("pod-identity", "sidecar")
        assert (done.returncode, done.stderr) == (0, "")
        assert shop.annotations()[EKS_ROLE_ARN] == ARN
        assert [labels[INJECT_LABEL] for labels, _ in shop.templates()] == ["true"] * len(KINDS)
        shop.replace_pods()
        assert all(has_sidecar(spec) for spec in shop.pods())
        assert shop.migrate("pod-identity", "sidecar", "--finish").returncode == 0
        assert shop.associations() == []

        first = shop.migrate("pod-identity", "sidecar", "--undo")
        assert (first.returncode, "run this again with --undo" in first.stdout) == (0, True)
        shop.replace_pods()
        assert all(has_pod_identity(spec) and not has_sidecar(spec) for spec in shop.pods())
        assert shop.migrate("pod-identity", "sidecar", "--undo").stdout.endswith("The former state is restored.\n")
        assert shop.state() == before


def test_new_association_is_waited_for(shop: Shop, policies: Cluster) -> None:
    """The webhook of EKS does not know the association when the first Pods are created."""
    shop.deploy(account={EKS_ROLE_ARN: ARN})
    with eks_webhook(policies, shop.has_association, unknown_pods=2) as webhook:
        done = shop.migrate("irsa", "pod-identity")
        assert (done.returncode, webhook.reviewed) == (0, 2)
        assert shop.annotations() == {}
        shop.replace_pods()
        assert all(has_pod_identity(spec) for spec in shop.pods())


def test_pods_that_would_get_no_sidecar_are_not_restarted(shop: Shop, policies: Cluster) -> None:
    """The policies lack their binding, so nothing is injected."""
    shop.deploy(pods={KUBE2IAM_ROLE: "cart"})
    templates, binding = shop.templates(), policies.kubectl("get", BINDING, "--output=json").stdout
    policies.kubectl("delete", BINDING)
    try:
        wait_until(lambda: not has_sidecar(_dry_pod(shop)), "the removal of the binding")
        done = shop.migrate("kube2iam", "sidecar")
    finally:
        kept = json.loads(binding)
        kept["metadata"] = {"name": kept["metadata"]["name"], "labels": kept["metadata"].get("labels") or {}}
        policies.kubectl("create", "--filename=-", stdin=json.dumps(kept))
    assert (done.returncode, "nothing was restarted" in done.stderr) == (1, True)
    assert shop.templates() == templates
    again = shop.migrate("kube2iam", "sidecar")
    assert (again.returncode, again.stderr) == (0, "")
    assert [KUBE2IAM_ROLE in annotations for _, annotations in shop.templates()] == [False] * len(KINDS)


def _dry_pod(shop: Shop) -> Any:
    """Return the spec of a labelled Pod that a dry run creates, or an empty spec if the API server rejects the Pod."""
    metadata = {"name": "dry", "labels": {INJECT_LABEL: "true"}, "annotations": {"irsa-sidecar.io/role-arn": ARN}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": Shop._pod_spec([{"name": "data"}])}
    arguments = ("create", "--dry-run=server", "--output=json", "--filename=-")
    done = shop.namespace.kubectl(*arguments, stdin=json.dumps(pod), check=False)
    return json.loads(done.stdout)["spec"] if done.returncode == 0 else {}


def test_other_cluster_is_rejected_before_a_change(shop: Shop) -> None:
    shop.deploy(account={EKS_ROLE_ARN: ARN})
    before = shop.state()
    with moto_server() as other:
        client = boto3.client(
            "eks",
            endpoint_url=other.url,
            region_name="eu-west-1",
            aws_access_key_id="AKIAFAKE",
            aws_secret_access_key="secret",
        )
        client.create_cluster(name="shop", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={})
        client.close()
        shop.aws.target = other.url
        done = shop.migrate("irsa", "pod-identity")
    assert (done.returncode, f"has the issuer {ISSUER}" in done.stderr) == (2, True)
    assert shop.state() == before
