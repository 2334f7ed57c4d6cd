"""Test plans from random current resources to random wanted resources."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.setup.plan import Plan, coloured, difference
from sidecar.setup.plan_oidc_provider import plan_provider
from sidecar.setup.plan_role import WantedRole, plan_role
from sidecar.setup.resources import Account, IamRole, OidcProvider, provider_arn
from sidecar.setup.trust_policy import Change, TrustGrant, own_subjects, with_grant

ACCOUNT = Account("111122223333", "aws")
_FEW = st.sampled_from(["a", "b", "c"])
_TAGS = st.dictionaries(_FEW, _FEW, max_size=3)
_ARNS = st.lists(_FEW, max_size=3, unique=True).map(tuple)


def _grant(issuer: str, audience: str, subjects: list[str]) -> TrustGrant:
    url = f"https://{issuer}.example.com"
    return TrustGrant(provider_arn(ACCOUNT, url), url, audience, tuple(subjects))


_GRANTS = st.builds(_grant, _FEW, _FEW, st.lists(_FEW, min_size=1, max_size=3, unique=True).map(sorted))
_POLICIES = st.lists(_GRANTS, min_size=1, max_size=3).map(
    lambda grants: {"Statement": [grant.statement() for grant in grants]}
)
_ROLES = st.builds(
    IamRole,
    st.just("arn:aws:iam::111122223333:role/cart"),
    st.just("cart"),
    st.just("/"),
    _POLICIES,
    st.sampled_from([3600, 7200]),
    st.none() | _FEW,
    _ARNS,
    _TAGS,
)
_WANTED = st.builds(
    WantedRole,
    st.just("cart"),
    _GRANTS,
    st.none() | st.just("/"),
    st.sampled_from([None, 3600, 7200]),
    st.none() | _FEW,
    _ARNS,
    _TAGS,
    change=st.sampled_from([Change.ADD, Change.REPLACE]),
    overwrite_edits=st.just(value=True),
)


def shown(plan: Plan) -> list[str]:
    return list(difference(None if plan.current is None else plan.current.document(), plan.planned.document()))


@given(st.none() | _ROLES, _WANTED)
def test_second_plan_for_a_role_has_no_changes(current: IamRole | None, wanted: WantedRole) -> None:
    first = plan_role(current, wanted, ACCOUNT)
    planned = first.planned
    assert isinstance(planned, IamRole)
    assert wanted.grant is not None
    assert with_grant(planned.trust_policy, wanted.grant) == planned.trust_policy
    assert set(wanted.grant.subjects) <= set(own_subjects(planned.trust_policy, wanted.grant))
    assert set(wanted.policy_arns) <= set(planned.policy_arns)
    assert {**planned.tags, **wanted.tags} == planned.tags
    if current is not None:
        assert set(current.policy_arns) <= set(planned.policy_arns)
        assert current.tags.keys() <= planned.tags.keys()
    assert bool(first.calls) is bool(shown(first)) is (current != planned)
    again = plan_role(planned, wanted, ACCOUNT)
    assert (again.calls, again.planned, shown(again)) == ((), planned, [])


_HASHES = st.lists(_FEW, max_size=3, unique=True).map(tuple)
_PROVIDERS = st.builds(OidcProvider, st.just("arn"), st.just("https://x.example.com"), _HASHES, _HASHES, _TAGS)


@given(st.none() | _PROVIDERS, _PROVIDERS)
def test_second_plan_for_a_provider_has_no_changes(current: OidcProvider | None, wanted: OidcProvider) -> None:
    first = plan_provider(current, wanted)
    planned = first.planned
    assert isinstance(planned, OidcProvider)
    for before in [wanted, *([current] if current else [])]:
        assert set(before.audiences) <= set(planned.audiences)
        assert set(before.thumbprints) <= set(planned.thumbprints)
    assert bool(first.calls) is bool(shown(first)) is (current != planned)
    assert plan_provider(planned, wanted).calls == ()


def test_sixth_thumbprint_is_rejected() -> None:
    full = OidcProvider("arn", "https://x.example.com", ("a",), tuple("12345"))
    with pytest.raises(ConfigurationError, match=r"arn has 5 thumbprints.* is 6"):
        plan_provider(full, replace(full, thumbprints=("6",)))


def test_policies_beyond_the_default_quota_cause_a_note() -> None:
    wanted = WantedRole("cart", _grant("a", "b", ["c"]), policy_arns=tuple("0123456789a"))
    assert "would have 11 managed policies" in plan_role(None, wanted, ACCOUNT).notes[0]


def test_difference_shows_only_changes_and_context() -> None:
    before = {name: name for name in "abcdefghijklmno"}
    lines = list(difference(before, before | {"b": "x", "n": "y"}))
    assert lines == [
        "  a: a", "- b: b", "+ b: x", "  c: c", "  d: d", "  e: e", "  ⋮",
        "  k: k", "  l: l", "  m: m", "- n: n", "+ n: y", "  o: o",
    ]  # fmt: skip


def test_added_and_removed_lines_are_coloured() -> None:
    assert coloured("+ a") == "\x1b[32m+ a\x1b[0m"
    assert coloured("- a") == "\x1b[31m- a\x1b[0m"
    assert coloured("  a") == "  a"
