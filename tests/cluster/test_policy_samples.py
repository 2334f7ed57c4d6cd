"""
Apply the ValidatingAdmissionPolicies of k8s/policies to a real API server, and send it the table of cases.

Kubernetes has this kind since 1.30. This file also checks the overlay for Kyverno, because kubectl has kustomize.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.reader import Reader
from tests.cluster.waiting import wait_until
from tests.policies.cases import CASES, Case, Document
from tests.policies.objects import POLICIES_LABEL, service_accounts
from tests.support.manifests import K8S, documents

PAGE = "docs/policies.md"
SAMPLES = K8S / "policies/validating-admission-policy"
REFUSED = [case for case in CASES if case.message]
CREATED = [case for case in CASES if case.before is None]

APPLY = ("apply", "--server-side", "--force-conflicts", "--filename=-")

_ACCEPTED = re.compile(r"^\S+/([\w-]+) (?:created|serverside-applied) \(server dry run\)$", re.MULTILINE)
_REFUSAL = re.compile(r'^Error from server .*? "([\w-]+)" is forbidden: (.*)$', re.MULTILINE)
_WARNING = re.compile(r"^Warning: Validation failed for ValidatingAdmissionPolicy '([\w-]+)' with (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def policies(cluster: Cluster) -> Iterator[Cluster]:
    """Apply the policies for the tests of this module. Only namespaces with a label enable them."""
    served = cluster.kubectl("get", "--raw", "/apis/admissionregistration.k8s.io/v1").stdout
    if "validatingadmissionpolicies" not in served:
        pytest.skip("needs Kubernetes 1.30 or newer")
    cluster.kubectl("apply", f"--kustomize={SAMPLES}")
    yield cluster
    cluster.kubectl("delete", f"--kustomize={SAMPLES}")


@pytest.fixture(scope="module")
def enforcing(policies: Cluster) -> Iterator[Namespace]:
    yield from _namespace(policies, "enforce")


@pytest.fixture(scope="module")
def warning(policies: Cluster) -> Iterator[Namespace]:
    yield from _namespace(policies, "warn")


@pytest.fixture(scope="module")
def results(enforcing: Namespace) -> dict[str, str]:
    """Return the message for each case that the API server rejected, and an empty string for each accepted case."""
    output = _request(enforcing, "create", [case.document for case in CREATED])
    output += _request(enforcing, "apply", [case.document for case in CASES if case.before is not None])
    return dict(_REFUSAL.findall(output)) | dict.fromkeys(_ACCEPTED.findall(output), "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_api_server_makes_the_expected_decision(results: dict[str, str], case: Case) -> None:
    message = results[case.name]
    assert bool(message) == bool(case.message)
    if case.message:
        assert f"'irsa-sidecar-{case.rule}'" in message
        assert case.message in message


def test_warning_mode_accepts_and_warns(warning: Namespace) -> None:
    """Compare the texts of the warnings, because kubectl prints equal warnings once."""
    output = _request(warning, "create", [case.document for case in CREATED])
    assert len(_ACCEPTED.findall(output)) == len(CREATED)
    expected = {(f"irsa-sidecar-{case.rule}", case.message) for case in CREATED if case.message}
    warnings = _WARNING.findall(output)
    found = {(policy, part) for policy, text in warnings for _, part in expected if part in text}
    assert found == expected
    assert {policy for policy, _ in warnings} == {policy for policy, _ in expected}


def test_policies_do_not_apply_in_a_namespace_without_the_label(policies: Cluster, enforcing: Namespace) -> None:
    for new in _namespace(policies, None):
        output = _request(new, "create", [case.document for case in CREATED])
        assert len(_ACCEPTED.findall(output)) == len(CREATED)


def test_api_server_finds_no_type_errors_in_expressions(policies: Cluster) -> None:
    """Wait for the controller that checks expressions against the types of the objects."""

    def checked() -> list[Document] | None:
        found = policies.get("validatingadmissionpolicies")["items"]
        ours = [each for each in found if each["metadata"]["name"].startswith("irsa-sidecar-")]
        return ours if all("typeChecking" in each.get("status", {}) for each in ours) else None

    statuses = [each["status"] for each in wait_until(checked, "the type check of the policies")]
    assert [status["typeChecking"] for status in statuses] == [{}] * 5


def test_page_enables_the_policies(policies: Cluster, tmp_path: Path) -> None:
    """Repeat the steps until the policies are in force. The last step expects a rejection."""
    reader = Reader(policies, tmp_path, "tests/cluster/test_policy_samples.py")
    policies.kubectl("create", "namespace", reader.namespace)
    try:
        reader.run(PAGE, "With the API server")
        wait_until(
            lambda: reader.try_out(PAGE, "Turn the policies on in a namespace").returncode == 0,
            "the rejection",
            details=lambda: str(reader.try_out(PAGE, "Turn the policies on in a namespace")),
        )
    finally:
        reader.close()


def test_warning_overlay_of_kyverno_differs_only_in_mode(cluster: Cluster) -> None:
    enforce, warn = (_kyverno_policies(cluster, mode) for mode in ("enforce", "warn"))
    assert len(enforce) == len(warn) == 6
    for before, after in zip(enforce, warn, strict=True):
        assert after["metadata"]["name"] == f"{before['metadata']['name']}-warn"
        changed = {key for key, value in before["spec"].items() if after["spec"][key] != value}
        assert changed - {"validationConfigurations"} == {"failurePolicy", "matchConstraints", "validationActions"}
        assert after["spec"]["validationActions"] == ["Warn", "Audit"]
        assert after["spec"]["matchConstraints"]["namespaceSelector"] == {"matchLabels": {POLICIES_LABEL: "warn"}}


def _kyverno_policies(cluster: Cluster, mode: str) -> list[Document]:
    rendered = documents(cluster.kubectl("kustomize", str(K8S / "policies/kyverno" / mode)).stdout)
    return [each for each in rendered if each["kind"].endswith("ValidatingPolicy")]


def _namespace(cluster: Cluster, mode: str | None) -> Iterator[Namespace]:
    """
    Create a namespace with the ServiceAccounts, and with the Pods that the tests update.

    The policies are then enabled in the namespace, unless `mode` is None.
    """
    namespace = Namespace(cluster, f"test-{uuid.uuid4().hex[:8]}")
    cluster.kubectl("create", "namespace", namespace.name)
    try:
        older = [case.before for case in CASES if case.before is not None]
        namespace.kubectl(*APPLY, stdin=_text(namespace, [*service_accounts(), *older]))
        if mode is not None:
            cluster.kubectl("label", "namespace", namespace.name, f"{POLICIES_LABEL}={mode}")
            examples = {case.rule: case.document for case in REFUSED if case.before is None}
            wait_until(lambda: _are_in_force(namespace, examples.values()) or None, "the policies")
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def _are_in_force(namespace: Namespace, examples: Iterable[Document]) -> bool:
    """Return whether every policy rejects its example or warns about it. Policies take effect one after the other."""
    documents = list(examples)
    output = _request(namespace, "create", documents)
    return len(_REFUSAL.findall(output)) + len(_WARNING.findall(output)) == len(documents)


def _request(namespace: Namespace, verb: str, objects: Iterable[Document]) -> str:
    """Send all objects in one command without storing them, and return its output."""
    command = APPLY if verb == "apply" else ("create", "--filename=-")
    done = namespace.kubectl(*command, "--dry-run=server", stdin=_text(namespace, objects), check=False)
    return done.stdout + done.stderr


def _text(namespace: Namespace, objects: Iterable[Document]) -> str:
    return yaml.safe_dump_all(
        {**each, "metadata": {**each["metadata"], "namespace": namespace.name}} for each in objects
    )
