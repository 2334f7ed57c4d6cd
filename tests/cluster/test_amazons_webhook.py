"""
Test Amazon's webhook together with ours, in both orders, as on an EKS cluster.

The API server calls webhooks in the order of their configurations' names. Amazon's configuration is named
`pod-identity-webhook`, so the API server calls Amazon's webhook after ours. Amazon's manifest sets the reinvocation
policy Never, and some clusters use IfNeeded.
"""

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.cluster.applications import authored_spec
from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.layout import IPV4
from tests.cluster.namespace import Namespace
from tests.cluster.sts import REGION, ClusterSts, role_arn
from tests.cluster.waiting import GUARD_SECONDS, wait_until
from tests.cluster.webhook import labelled_pod
from tests.support.fakes.amazons_webhook import VOLUME
from tests.support.manifests import SIDECAR, sidecar_of, variables_of

ORDERS = {"before ours": "amazons-pod-identity-webhook", "after ours": "pod-identity-webhook"}
WEB_IDENTITY = {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}

METHOD = "report(boto3.Session().get_credentials().method, who_am_i())\nuntil_stopped()"


class Amazons:
    """Amazon's webhook while it is running. `reviews` has a line for each call."""

    def __init__(self, url: str, authority: trustme.CA, results: Path) -> None:
        self.url = url
        self._authority = authority
        self._output = results

    @property
    def reviews(self) -> list[str]:
        return self._output.read_text().split()[1:]

    def configuration(self, name: str, namespace: Namespace, policy: str) -> dict[str, Any]:
        """Return the configuration of Amazon's manifest, limited to this namespace and with failure policy Fail."""
        bundle = base64.b64encode(self._authority.cert_pem.bytes()).decode()
        webhook = {
            "name": "pod-identity-webhook.amazonaws.com",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": f"{self.url}/mutate", "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "reinvocationPolicy": policy,
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        return {**kind, "metadata": {"name": name}, "webhooks": [webhook]}


@pytest.fixture(scope="module")
def amazons(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazons]:
    folder, authority = tmp_path_factory.mktemp("amazons"), trustme.CA()
    certificate, results = folder / "certificate.pem", folder / "reviews"
    authority.issue_cert(IPV4.node).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    command = [*node.inside(), sys.executable, "-m", "tests.support.fakes.amazons_webhook", f"--host={IPV4.node}"]
    command += [f"--certificate={certificate}", f"--role-arn={role_arn('app')}", f"--region={REGION}"]
    with results.open("w") as output:
        serving = subprocess.Popen(command, cwd=REPOSITORY, stdout=output)

    def port() -> str | None:
        assert serving.poll() is None
        found = results.read_text()
        return found.strip() if found.endswith("\n") else None

    yield Amazons(f"https://{IPV4.node}:{wait_until(port, 'the port')}", authority, results)
    serving.terminate()
    serving.wait(GUARD_SECONDS)


@contextmanager
def webhooks_side_by_side(
    namespace: Namespace, sts: ClusterSts, amazons: Amazons, order: str, policy: str = "IfNeeded"
) -> Iterator[None]:
    """Run Amazon's webhook in addition to ours. Yield when the API server calls Amazon's webhook."""
    configuration = amazons.configuration(ORDERS[order], namespace, policy)
    namespace.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(configuration))
    try:
        wait_until(lambda: _is_called(namespace, sts, amazons), "a call of Amazon's webhook")
        yield
    finally:
        namespace.kubectl("delete", "mutatingwebhookconfiguration", ORDERS[order])


def _is_called(namespace: Namespace, sts: ClusterSts, amazons: Amazons) -> bool:
    before = len(amazons.reviews)
    _admitted(namespace, labelled_pod(authored_spec(sts), labels={}))
    return len(amazons.reviews) > before


@pytest.mark.parametrize("order", ORDERS)
def test_amazons_webhook_serves_only_excluded_containers(
    annotated: Namespace, sts: ClusterSts, amazons: Amazons, order: str
) -> None:
    with webhooks_side_by_side(annotated, sts, amazons, order):
        annotated.apply(_pod(sts))
        arn = f"arn:aws:sts::111122223333:assumed-role/app/{annotated.name}.web"
        assert f"container-role {arn}\n" in annotated.logged("web", "app", "arn:aws")
        assert "assume-role-with-web-identity arn" in annotated.logged("web", "plain", "arn:aws")
        _assert_right(annotated.pod("web"))


@pytest.mark.parametrize("policy", ["Never", "IfNeeded"])
@pytest.mark.parametrize("order", ORDERS)
def test_second_admission_changes_nothing(
    annotated: Namespace, sts: ClusterSts, amazons: Amazons, order: str, policy: str
) -> None:
    with webhooks_side_by_side(annotated, sts, amazons, order, policy):
        before = len(amazons.reviews)
        first = _admitted(annotated, _pod(sts))
        # Our webhook changes the Pod after Amazon's webhook, so the API server calls Amazon's webhook again. In
        # the other cases, the API server calls Amazon's webhook once.
        assert len(amazons.reviews) - before == (2 if (order, policy) == ("before ours", "IfNeeded") else 1)
        _assert_right(first)
        again = {key: first[key] for key in ("apiVersion", "kind", "spec")}
        again["metadata"] = {key: first["metadata"][key] for key in ("name", "labels", "annotations")}
        second = _admitted(annotated, again)
        for found in (first, second):
            found["spec"]["volumes"].sort(key=lambda volume: volume["name"])
        assert second["spec"] == first["spec"]
        assert second["metadata"]["annotations"] == first["metadata"]["annotations"]


def _pod(sts: ClusterSts) -> dict[str, Any]:
    """Return a Pod. Its container `app` and an init container use our credentials, and `plain` is excluded."""
    spec = authored_spec(sts, program=METHOD)
    spec["initContainers"] = [deepcopy(spec["containers"][0]) | {"name": "prepare", "args": ["pass"]}]
    spec["containers"].append(deepcopy(spec["containers"][0]) | {"name": "plain"})
    return labelled_pod(spec, annotations={"irsa-sidecar.io/skip-containers": "plain"})


def _assert_right(pod: dict[str, Any]) -> None:
    containers = {each["name"]: each for each in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]}
    assert list(containers) == [SIDECAR, "prepare", "app", "plain"]
    for name in ("prepare", "app"):
        variables = variables_of(containers[name])
        assert not WEB_IDENTITY & set(variables)
        assert variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials"
    assert "eks.amazonaws.com" in variables_of(containers["plain"])["AWS_WEB_IDENTITY_TOKEN_FILE"]
    assert "irsa-sidecar" in variables_of(sidecar_of(pod))["AWS_WEB_IDENTITY_TOKEN_FILE"]
    mounting = {name for name, each in containers.items() if VOLUME in {m["name"] for m in each["volumeMounts"]}}
    assert mounting == {"plain"}


def _admitted(namespace: Namespace, pod: dict[str, Any]) -> dict[str, Any]:
    """Return the Pod after admission."""
    flags = ["--dry-run=server", "--output=json", "--filename=-"]
    found: dict[str, Any] = yaml.safe_load(namespace.kubectl("create", *flags, stdin=yaml.safe_dump(pod)).stdout)
    return found
