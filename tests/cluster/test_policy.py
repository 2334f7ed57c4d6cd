"""Test injection by the API server itself, with the objects of `irsa-sidecar setup policy` and no other component."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.injection.settings import ServiceAccount
from sidecar.policy.pod_rejection import OTHER_WAYS
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.policy import (
    MUTATING,
    VALIDATING,
    cart,
    changed_variable,
    dry_run,
    installed_policy,
    namespace_with_accounts,
)
from tests.cluster.policy_comparison import RIGHT, Verdict, compared
from tests.cluster.policy_pods import ACCOUNTS, ANNOTATIONS, OURS, generated
from tests.cluster.waiting import wait_until
from tests.support.manifests import sidecar_of
from tests.unit.injection import pods

PODS = int(os.environ.get("POLICY_PODS", "2000"))
"""The number of generated Pods. A release compares 10,000 Pods."""

BURST = 200

SETTINGS = pods.SETTINGS._replace(environment=(("AWS_USE_FIPS_ENDPOINT", "true"), ("HTTPS_PROXY", 'http://"p"')))

REGION = 1
"""The position of the variable `region` in the mutating policy."""


@pytest.fixture(scope="module")
def policy(cluster: Cluster) -> Iterator[Cluster]:
    with installed_policy(cluster, SETTINGS):
        yield cluster


@pytest.fixture(scope="module")
def shop(policy: Cluster) -> Iterator[Namespace]:
    with namespace_with_accounts(policy) as namespace:
        yield namespace


def rejection(namespace: Namespace, pod: dict[str, Any]) -> str:
    found = dry_run(namespace, pod)
    assert isinstance(found, str), found
    return found


def is_accepted(namespace: Namespace) -> bool:
    return isinstance(dry_run(namespace, cart()), dict)


def test_policy_creates_the_same_pods_as_injection(policy: Cluster, shop: Namespace) -> None:
    """Compare generated Pods. The counts show that three of the correct verdicts occur often."""
    verdicts: Counter[Verdict] = Counter()
    for found in compared(policy, shop.name, generated(PODS), SETTINGS):
        assert found.verdict in RIGHT, found
        verdicts[found.verdict] += 1
    print({verdict.value: count for verdict, count in verdicts.items()})
    assert verdicts[Verdict.SAME_POD] > PODS / 3
    assert verdicts[Verdict.BOTH_REJECT] > PODS / 5
    assert verdicts[Verdict.ONLY_WEBHOOK] > PODS / 100


def test_policy_and_injection_reject_with_the_same_words(policy: Cluster, shop: Namespace) -> None:
    """Compare the sentences. For a session name, only the beginning must be the same."""
    wrong = {
        (name, value): sentence
        for name, values in ANNOTATIONS.items()
        for value in values
        if "/roles" not in name and (sentence := _sentence({name: value}, shop.name))
    }
    wrong_pods = [cart(annotations={name: value}) for name, value in wrong]
    for ((name, value), sentence), found in zip(
        wrong.items(), compared(policy, shop.name, wrong_pods, SETTINGS), strict=True
    ):
        same = sentence[: sentence.index(",")] if "session-name" in name else sentence
        if found.verdict is not Verdict.INVALID:  # the API server always rejects a mirror Pod
            assert same.replace("\\\\", "\\") in str(found.of_policy), value
    assert len(wrong) > 30


def _sentence(annotations: dict[str, str], namespace: str) -> str | None:
    """Return the sentence with which injection rejects these annotations, or None if it accepts them."""
    try:
        inject(cart(annotations=annotations), ServiceAccount(namespace, "cart", ACCOUNTS["cart"]), SETTINGS)
    except ConfigurationError as error:
        return error.problem
    return None


def test_list_of_roles_is_rejected_with_an_alternative(shop: Namespace) -> None:
    assert OTHER_WAYS in rejection(shop, cart(annotations={f"{OURS}roles": "[]"}))


def test_pod_with_a_sidecar_is_not_changed(shop: Namespace) -> None:
    once = dry_run(shop, cart())
    assert isinstance(once, dict)
    again = dry_run(shop, {**once, "metadata": {**once["metadata"], "uid": None}})
    assert isinstance(again, dict)
    assert again["spec"] == once["spec"]
    assert again["metadata"]["annotations"] == once["metadata"]["annotations"]


def test_stub_of_a_sidecar_is_rejected(shop: Namespace) -> None:
    pod = cart(initContainers=[{"name": "irsa-sidecar", "image": "other"}])
    assert "which is the sidecar's name" in rejection(shop, pod)


def test_label_with_value_false_prevents_injection(shop: Namespace) -> None:
    pod = cart()
    pod["metadata"]["labels"] = {"irsa-sidecar.io/inject": "false"}
    found = dry_run(shop, pod)
    assert isinstance(found, dict)
    assert "initContainers" not in found["spec"]


def test_rejection_shows_the_error_of_a_failing_expression(policy: Cluster, shop: Namespace) -> None:
    with changed_variable(policy, REGION, "string(object.spec.nowhere)"):
        wait_until(lambda: "no such key: nowhere" in str(dry_run(shop, cart())), "the rejection")
    wait_until(lambda: is_accepted(shop), "the accepted Pod")


def test_pod_over_the_cost_limit_is_rejected(shop: Namespace) -> None:
    """Use a Pod with so many variables that an expression exceeds the API server's cost limit."""
    env = [{"name": f"V{number}", "value": "x" * 40} for number in range(4000)]
    found = rejection(shop, cart(*({"name": f"c{n}", "image": "app", "env": env} for n in range(8))))
    assert "cost" in found


def test_pod_without_the_sidecar_is_rejected(policy: Cluster, shop: Namespace) -> None:
    """Remove the binding of the mutating policy, so that the policy does not run, as for an unknown ServiceAccount."""
    binding = "mutatingadmissionpolicybinding/irsa-sidecar"
    before = policy.kubectl("get", binding, "--output=yaml").stdout
    policy.kubectl("delete", binding)
    try:
        expected = f"does not know ServiceAccount {shop.name}/cart yet"
        wait_until(lambda: expected in str(dry_run(shop, cart())), "the rejection")
    finally:
        policy.kubectl("create", "--filename=-", stdin=before)
    wait_until(lambda: is_accepted(shop), "the accepted Pod")


def test_every_pod_of_a_burst_has_a_sidecar(shop: Namespace) -> None:
    """Create Pods that no node runs, because only their creation matters."""
    pod = cart(restartPolicy="Never", nodeSelector={"nowhere": ""})
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}
    job = {"parallelism": BURST, "completions": BURST, "template": template}
    shop.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "burst"}, "spec": job})

    def all_made() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = shop.get("pods", "--selector=job-name=burst")["items"]
        return found if len(found) == BURST else []

    assert {sidecar_of(each)["image"] for each in wait_until(all_made, "all Pods of the burst")} == {SETTINGS.image}
    assert shop.get("events", "--field-selector=reason=FailedCreate")["items"] == []


def test_api_server_finds_no_type_errors(policy: Cluster) -> None:
    def checked() -> dict[str, Any] | None:
        found: dict[str, Any] = policy.get(VALIDATING)
        return found if found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"] else None

    assert wait_until(checked, "the check of the types")["status"].get("typeChecking", {}) == {}
    assert policy.get(MUTATING)["spec"]["failurePolicy"] == "Fail"
