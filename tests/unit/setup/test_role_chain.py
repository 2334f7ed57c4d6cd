"""Test the two policies of a role chain: grant, repetition, revocation, and edits by other people."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import Principal, parse_policy
from sidecar.setup.role_chain import ChainChange, ChainGrant, parse_target, with_permission, with_trust
from sidecar.setup.trust_policy import Change

SOURCE = "arn:aws:iam::111122223333:role/pods/cart"
TARGET = parse_target("--chain-to", "arn:aws:iam::444455556666:role/team/data")
GRANT = ChainGrant(SOURCE, TARGET, "agreed")
ADD = ChainChange(GRANT)
REMOVE = ChainChange(GRANT, Change.REMOVE)
THEIRS = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:root"}, "Action": "sts:AssumeRole"}

_STATEMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "Effect": st.sampled_from(["Allow", "Deny"]),
            "Principal": st.sampled_from([{"AWS": "444455556666"}, {"Service": "ec2.amazonaws.com"}, {"AWS": SOURCE}]),
            "Action": st.sampled_from(["sts:AssumeRole", ["sts:AssumeRole", "sts:TagSession"]]),
        },
        optional={
            "Sid": st.sampled_from(["Theirs", ChainGrant(f"{SOURCE}-2", TARGET).sid]),
            "Condition": st.just({"StringEquals": {"sts:ExternalId": "other"}}),
        },
    ),
    min_size=1,
    max_size=4,
)
_GRANTS = st.builds(
    ChainGrant, st.just(SOURCE), st.just(TARGET), st.sampled_from([None, "agreed", "12"]), st.booleans()
)


def policy(*statements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [*statements]}


def is_assumable(
    document: Any, external_id: str | None, source_arn: str = SOURCE, action: str = "sts:AssumeRole"
) -> bool:
    """Return whether the local STS accepts a session of the first role."""
    context = {} if external_id is None else {"sts:externalid": (external_id,)}
    principal = Principal((source_arn,), "111122223333")
    return parse_policy(json.loads(json.dumps(document)), "it").evaluate(action, principal, context).is_allowed


@given(_STATEMENTS, _GRANTS)
def test_revocation_restores_the_trust_policy(statements: list[Any], grant: ChainGrant) -> None:
    before = policy(*statements)
    added = with_trust(before, ChainChange(grant))
    assert with_trust(added, ChainChange(grant)) == added
    is_new = added != before
    assert with_trust(added, ChainChange(grant, Change.REMOVE)) == before
    assert [each for each in added["Statement"] if each in statements] == statements
    assert len(added["Statement"]) == len(statements) + is_new


@given(_GRANTS)
def test_revocation_removes_the_permission(grant: ChainGrant) -> None:
    added = with_permission(None, ChainChange(grant))
    assert added == with_permission(added, ChainChange(grant)) == grant.permission()
    assert with_permission(added, ChainChange(grant, Change.REMOVE)) is None


def test_only_the_role_with_the_external_id_is_trusted() -> None:
    document = with_trust(policy(THEIRS), ADD)
    assert is_assumable(document, "agreed")
    assert not is_assumable(document, "guess")
    assert not is_assumable(document, None)
    assert not is_assumable(document, "agreed", f"{SOURCE}-2")
    assert not is_assumable(document, "agreed", action="sts:TagSession")


def test_missing_flags_keep_the_external_id_and_the_tags() -> None:
    first = with_trust(None, ChainChange(replace(GRANT, has_tags=True)))
    bare = ChainChange(ChainGrant(SOURCE, TARGET))
    assert with_trust(first, bare) == first
    assert is_assumable(
        with_trust(first, ChainChange(replace(GRANT, external_id="new"))), "new", action="sts:TagSession"
    )
    dropped = with_trust(first, bare._replace(drops_external_id=True))
    assert is_assumable(dropped, None)
    permission = with_permission(None, ChainChange(replace(GRANT, has_tags=True)))
    assert with_permission(permission, bare) == permission


def test_tags_are_added_to_an_existing_permission() -> None:
    permission = with_permission(GRANT.permission(), ChainChange(replace(GRANT, has_tags=True)))
    assert permission == replace(GRANT, has_tags=True).permission()


def test_statement_of_a_deleted_role_is_written_again() -> None:
    """IAM replaces the ARN of a deleted role with its unique ID, and a new role with the same name has another ID."""
    old = policy(THEIRS, GRANT.statement() | {"Principal": {"AWS": "AROAEXAMPLE1234567890"}})
    assert with_trust(old, ADD) == policy(THEIRS, GRANT.statement())


def test_equal_statement_of_another_tool_is_sufficient() -> None:
    theirs = {name: value for name, value in GRANT.statement().items() if name != "Sid"}
    theirs["Action"] = ["sts:AssumeRole"]
    assert with_trust(policy(theirs), ADD) == policy(theirs)


@pytest.mark.parametrize(
    "edit",
    [
        {"Condition": {"StringEquals": {"sts:ExternalId": ["agreed", "second"]}}},
        {"Condition": {"StringLike": {"sts:ExternalId": "*"}}},
        {"Condition": {"StringEquals": {"sts:ExternalId": "agreed"}, "Bool": {"aws:SecureTransport": "true"}}},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"AWS": [SOURCE, "arn:aws:iam::111122223333:role/other"]}},
        {"Action": "sts:*"},
    ],
    ids=str,
)
def test_edited_statement_needs_a_flag(edit: dict[str, Any]) -> None:
    edited = policy(THEIRS, GRANT.statement() | edit)
    for wanted in (ADD, REMOVE):
        with pytest.raises(ConfigurationError, match="was edited"):
            with_trust(edited, wanted)
    assert is_assumable(with_trust(edited, ADD._replace(overwrite_edits=True)), "agreed")
    assert with_trust(edited, REMOVE._replace(overwrite_edits=True)) == policy(THEIRS)


def test_edited_permission_needs_a_flag() -> None:
    edited = GRANT.permission()
    edited["Statement"][0]["Resource"] = "*"
    for wanted in (ADD, REMOVE):
        with pytest.raises(ConfigurationError, match="was edited"):
            with_permission(edited, wanted)
    assert with_permission(edited, ADD._replace(overwrite_edits=True)) == GRANT.permission()
    assert with_permission(edited, REMOVE._replace(overwrite_edits=True)) is None


def test_deny_with_our_sid_is_never_changed() -> None:
    deny = policy(THEIRS, GRANT.statement() | {"Effect": "Deny"})
    for wanted in (ADD, REMOVE._replace(overwrite_edits=True)):
        with pytest.raises(ConfigurationError, match="is a Deny"):
            with_trust(deny, wanted)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::444455556666:role/*",
        "arn:aws:iam::444455556666:role/${aws:username}",
        "arn:aws:iam::444455556666:role/dat?",
        "arn:aws:iam::444455556666:role/",
        "arn:aws:iam::444455556666:role//data",
        "arn:aws:iam::444455556666:user/data",
        "arn:aws:iam::4444:role/data",
        "arn:aws:iam::444455556666:role/data\n",
    ],
)
def test_target_must_be_one_role(arn: str) -> None:
    with pytest.raises(ConfigurationError, match="not the ARN of one role"):
        parse_target("--chain-to", arn)


def test_policy_name_is_within_the_limit_of_iam() -> None:
    """A name has at most 128 characters (IAM API reference, PutRolePolicy)."""
    longest = parse_target("--chain-to", f"arn:aws:iam::444455556666:role/a/{'b' * 64}")
    assert len(longest.policy_name) <= 128
    assert TARGET.policy_name == "irsa-sidecar-chain-444455556666-data"
