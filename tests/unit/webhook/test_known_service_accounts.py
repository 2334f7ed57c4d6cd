"""Test the ServiceAccounts in memory: only usable ones are kept, within the limits of a namespace and of all."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.injection.settings import ServiceAccount
from sidecar.webhook import known_service_accounts
from sidecar.webhook.known_service_accounts import KnownServiceAccounts, is_usable, read_service_account
from tests.unit.injection.pods import ARN

ROLE, AUDIENCE = "eks.amazonaws.com/role-arn", "eks.amazonaws.com/audience"
EXPIRATION, REGIONAL = "eks.amazonaws.com/token-expiration", "eks.amazonaws.com/sts-regional-endpoints"


def service_account(name: str, namespace: str = "shop", **annotations: str) -> ServiceAccount:
    return ServiceAccount(namespace, name, annotations or {ROLE: ARN})


@pytest.mark.parametrize(
    ("annotations", "usable"),
    [
        ({}, True),
        ({ROLE: ARN}, True),
        ({ROLE: "arn:aws-cn:iam::111122223333:role/path/" + "a" * 500}, True),
        ({ROLE: "arn:aws:iam::111122223333:role/" + "a" * 2000}, False),
        ({ROLE: "arn:aws:iam::1:role/app"}, False),
        ({ROLE: ""}, False),
        ({ROLE: ARN, AUDIENCE: "sts.amazonaws.com"}, True),
        ({ROLE: ARN, AUDIENCE: "a" * 256}, False),
        ({ROLE: ARN, AUDIENCE: "two words"}, False),
        ({EXPIRATION: "86400"}, True),
        ({EXPIRATION: "9" * 10}, False),
        ({EXPIRATION: "1h"}, False),
        ({REGIONAL: "True"}, True),
        ({REGIONAL: "yes"}, False),
    ],
)
def test_service_account_is_kept_only_if_injection_can_use_it(annotations: dict[str, str], *, usable: bool) -> None:
    found = ServiceAccount("shop", "cart", annotations)
    known = KnownServiceAccounts()
    known.put(found)
    assert is_usable(found) is usable
    assert known.get("shop", "cart") == (found if usable else None)
    assert known.beyond == (not usable)


def test_kept_names_of_unread_annotations_are_limited() -> None:
    """Check the kept names of misspelt annotations. The rejection of a Pod shows these names."""
    names = ["a", "eks.amazon.com/role-arn", *(f"role-{number}" for number in range(1000)), "role" * 1000]
    found = read_service_account(
        {"metadata": {"namespace": "shop", "name": "cart", "annotations": dict.fromkeys(names, ARN)}}
    )
    assert found == ServiceAccount("shop", "cart", {}, ("eks.amazon.com/role-arn", "role-0", "role-1", "role-2"))
    known = KnownServiceAccounts()
    known.put(found)
    assert known.get("shop", "cart") == found


def test_counted_size_is_at_least_the_real_size() -> None:
    """Compare the counted size with CPython's sizes, for ServiceAccounts from the smallest to the largest."""
    values = {ROLE: ARN, AUDIENCE: "a" * 255, EXPIRATION: "86400", REGIONAL: "true"}
    for annotations in ({}, {ROLE: ARN}, values):
        for unread in ((), ("role",), tuple(f"role{number}" for number in range(4)), ("x" * 100,) * 4):
            found = ServiceAccount("shop", "cart", annotations, unread)
            parts: tuple[object, ...] = ((found.namespace, found.name), annotations, *annotations.values(), *unread)
            assert known_service_accounts._size(found) >= sum(
                map(sys.getsizeof, (found, "shop", "cart", unread, *parts))
            )


@pytest.mark.parametrize(
    "name", ["audience", "a" * 101 + "role", "role\n", "meta.helm.sh/release-name", AUDIENCE, ROLE]
)
def test_unrelated_annotation_names_are_not_kept(name: str) -> None:
    metadata = {"namespace": "shop", "name": "cart", "annotations": {name: "x"}}
    assert read_service_account({"metadata": metadata}).unread == ()


def test_unusable_version_removes_the_previous_version() -> None:
    known = KnownServiceAccounts()
    known.put(service_account("cart"))
    known.put(ServiceAccount("shop", "cart", {ROLE: "nonsense"}))
    assert known.get("shop", "cart") is None
    assert len(known) == 0


def test_namespace_cannot_use_up_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_service_accounts, "MAX_BYTES_OF_NAMESPACE", 10_000)
    known = KnownServiceAccounts()
    for number in range(1000):
        known.put(service_account(f"a{number}", "evil"))
    kept = len(known)
    assert kept < 15
    known.put(service_account("cart"))
    assert known.get("shop", "cart") == service_account("cart")
    known.remove("evil", "a0")
    known.put(service_account("a999", "evil"))
    assert len(known) == kept + 1


def test_memory_for_all_namespaces_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_service_accounts, "MAX_BYTES", 10_000)
    known = KnownServiceAccounts()
    for number in range(1000):
        known.put(service_account("a", f"namespace-{number}"))
    assert len(known) < 15
    assert known.beyond == 1000 - len(known)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 500))))
def test_counted_bytes_equal_the_kept_service_accounts(steps: list[tuple[bool, str, str, int]]) -> None:
    """Check the counts after any sequence of additions and removals."""
    known = KnownServiceAccounts()
    for is_put, namespace, name, length in steps:
        if is_put:
            known.put(ServiceAccount(namespace, name, {ROLE: ARN + "a" * length}))
        else:
            known.remove(namespace, name)
    sizes = {key: known_service_accounts._size(found) for key, found in known._accounts.items()}
    assert known._total == sum(sizes.values())
    assert dict(known._bytes) == {
        namespace: sum(size for (other, _), size in sizes.items() if other == namespace)
        for namespace in {namespace for namespace, _ in sizes}
    }
