"""Test `setup cluster` against moto: many roles, an interruption, the removal, and roles that cannot be changed."""

import json
from typing import Any

import pytest

from sidecar.setup import aws as aws_module
from sidecar.setup.aws_error import AwsError
from sidecar.setup.plan import Call
from sidecar.setup.steps.cluster import FAILURES
from tests.unit.setup.conftest import Account
from tests.unit.setup.test_cluster_trust import BLUE_KEY, GREEN_KEY, policy, statement

BLUE, GREEN = f"https://{BLUE_KEY}", f"https://{GREEN_KEY}"
ARN = "arn:aws:iam::123456789012:oidc-provider/"
ROLES = 200


def trust(number: int, key: str = BLUE_KEY, **fields: Any) -> dict[str, Any]:
    subject = f"system:serviceaccount:team-{number % 7}:app-{number}"
    condition = {"StringEquals": {f"{key}:aud": "sts.amazonaws.com", f"{key}:sub": subject}}
    return statement(ARN + key, key, Condition=condition, **fields)


def name(number: int) -> str:
    return f"app-{number:03}"


def create(account: Account, role: str, document: dict[str, Any]) -> None:
    account.iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(document))


def policies(account: Account) -> dict[str, Any]:
    pages = account.iam.get_paginator("list_roles").paginate()
    return {role["RoleName"]: role["AssumeRolePolicyDocument"] for page in pages for role in page["Roles"]}


@pytest.fixture
def providers(account: Account) -> Account:
    for issuer in (BLUE, GREEN):
        account.iam.create_open_id_connect_provider(Url=issuer, ClientIDList=["sts.amazonaws.com"])
    return account


@pytest.fixture
def roles(providers: Account) -> dict[str, Any]:
    """Create 200 roles that trust the blue cluster, and one role that does not. Return their trust policies."""
    for number in range(ROLES):
        create(providers, name(number), policy(trust(number)))
    create(providers, "unrelated", policy(statement(f"{ARN}oidc.example.com/other", None)))
    return policies(providers)


COPY = ("cluster", "--like", BLUE, "--issuer", GREEN)


def test_interrupted_change_of_many_roles_is_resumed(
    providers: Account, roles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = json.loads(providers.setup(*COPY, "--dry-run", "--json").out)
    assert len(planned["roles"]) == ROLES
    assert policies(providers) == roles
    with monkeypatch.context() as patched:
        _interrupt_after(ROLES // 2, patched)
        interrupted = providers.setup(*COPY)
    assert interrupted.status == 1
    assert f"done: {ROLES // 2} of {ROLES} roles are changed. Run this again to continue." in interrupted.out
    resumed = providers.setup(*COPY)
    assert resumed.status == 0
    assert f"{ROLES // 2} roles are to be changed, {ROLES // 2} need no change, 0 cannot be changed" in resumed.out
    after = policies(providers)
    assert {name: after[name] for name in roles if name != "unrelated"} == {
        each["role"].rpartition("/")[2]: each["after"]["AssumeRolePolicyDocument"] for each in planned["roles"]
    }
    assert providers.setup("cluster", "--retire", GREEN).status == 0
    assert policies(providers) == roles


def _interrupt_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, done = aws_module.Aws.apply, 0

    def interrupted(self: aws_module.Aws, call: Call) -> None:
        nonlocal done
        if done == calls:
            raise KeyboardInterrupt
        done += 1
        apply(self, call)

    monkeypatch.setattr(aws_module.Aws, "apply", interrupted)


def test_role_whose_policy_would_be_too_large_is_named(providers: Account) -> None:
    create(providers, "large", policy(*(trust(number) for number in range(6))))
    create(providers, "small", policy(trust(1)))
    result = providers.setup(*COPY)
    assert result.status == 1
    assert "role/large: The trust policy of role" in result.err
    assert "but IAM accepts 2048" in result.err
    assert GREEN_KEY in json.dumps(policies(providers)["small"])
    assert GREEN_KEY not in json.dumps(policies(providers)["large"])
    assert providers.setup(*COPY, "--trust-policy-limit", "8192").status == 0
    assert GREEN_KEY in json.dumps(policies(providers)["large"])


def test_new_cluster_without_provider_is_an_error(account: Account) -> None:
    create(account, "app", policy(trust(1)))
    result = account.setup(*COPY)
    assert result.status == 1
    assert f"The account has no OIDC provider of {GREEN}. Create it first" in result.err


def test_role_of_only_the_retired_cluster_is_kept(providers: Account) -> None:
    create(providers, "blue-only", policy(trust(1)))
    create(providers, "both", policy(trust(2), trust(2, GREEN_KEY)))
    result = providers.setup("cluster", "--retire", BLUE)
    assert result.status == 1
    assert "role/blue-only: only this cluster can assume the role" in result.err
    after = policies(providers)
    assert after["blue-only"] == policy(trust(1))
    assert after["both"] == policy(trust(2, GREEN_KEY))


def test_role_that_changed_since_the_plan_is_not_overwritten(
    providers: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(providers, "app", policy(trust(1)))
    call = aws_module.Aws.call
    edited = policy(trust(2))

    def edited_meanwhile(self: aws_module.Aws, service: str, operation: str, **parameters: Any) -> Any:
        if operation == "GetRole":
            providers.iam.update_assume_role_policy(RoleName="app", PolicyDocument=json.dumps(edited))
        return call(self, service, operation, **parameters)

    monkeypatch.setattr(aws_module.Aws, "call", edited_meanwhile)
    result = providers.setup(*COPY)
    assert result.status == 1
    assert "was changed or deleted by somebody else" in result.err
    assert policies(providers)["app"] == edited


def _person(account: Account, *denied: str) -> None:
    """Let the command use a user who may do everything, except change the trust policies of these roles."""
    statements = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    for role in denied:
        action = {"Action": "iam:UpdateAssumeRolePolicy", "Resource": f"arn:aws:iam::123456789012:role/{role}"}
        statements.append({"Effect": "Deny", **action})
    account.iam.create_user(UserName="person")
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    account.iam.put_user_policy(UserName="person", PolicyName="only", PolicyDocument=document)
    key = account.iam.create_access_key(UserName="person")["AccessKey"]
    account.use(key["AccessKeyId"], key["SecretAccessKey"])


def test_protected_role_does_not_stop_the_other_roles(providers: Account) -> None:
    """A policy of the organization protects one role. Otherwise later roles could never be changed."""
    for number in range(7):
        create(providers, name(number), policy(trust(number)))
    _person(providers, name(2))
    done = providers.setup(*COPY)
    found = json.loads(providers.setup(*COPY, "--json").out)
    providers.server.allow_requests(10**9)
    assert done.status == 1
    assert "done: 6 of 7 roles are changed. Run this again to continue.\n" in done.out
    assert done.err.count("AWS rejected iam:UpdateAssumeRolePolicy (AccessDenied") == 1
    assert f"role/{name(2)}: AWS rejected" in done.err
    (left,) = found["roles"]
    assert (left["done"], "AccessDenied" in left["problem"]) == (False, True)
    changed = {role for role, document in policies(providers).items() if GREEN_KEY in json.dumps(document)}
    assert changed == {name(number) for number in range(7) if number != 2}


def test_missing_right_for_all_roles_is_reported_a_few_times(providers: Account) -> None:
    for number in range(9):
        create(providers, name(number), policy(trust(number)))
    before = policies(providers)
    _person(providers, "*")
    done = providers.setup(*COPY)
    providers.server.allow_requests(10**9)
    assert (done.status, "done: 0 of 9 roles are changed" in done.out) == (1, True)
    assert done.err.count("AWS rejected iam:UpdateAssumeRolePolicy (AccessDenied") == FAILURES
    assert policies(providers) == before


def test_throttling_stops_and_the_next_run_continues(providers: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        create(providers, name(number), policy(trust(number)))
    apply, calls = aws_module.Aws.apply, 0

    def throttled(self: aws_module.Aws, call: Call) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise AwsError(
                "Throttling", "AWS rejected the call (Throttling: Rate exceeded)", fix="Run this again later"
            )
        apply(self, call)

    with monkeypatch.context() as patched:
        patched.setattr(aws_module.Aws, "apply", throttled)
        done = providers.setup(*COPY)
    assert (done.status, calls) == (1, 3)
    assert "done: 2 of 4 roles are changed. Run this again to continue.\n" in done.out
    assert "Rate exceeded). Run this again later." in done.err
    assert providers.setup(*COPY).status == 0
    for flags in ((), ("--dry-run",)):
        again = providers.setup(*COPY, *flags)
        assert (again.status, "done:" in again.out, "next:" in again.out) == (0, False, False)
    assert all(GREEN_KEY in json.dumps(document) for document in policies(providers).values())


def test_wide_statement_that_is_copied_causes_a_warning(providers: Account) -> None:
    """A copy of a statement for every service account opens the role to the whole new cluster."""
    condition = {"StringLike": {f"{BLUE_KEY}:sub": "*"}}
    create(providers, "wide", policy(trust(1), statement(ARN + BLUE_KEY, BLUE_KEY, Condition=condition)))
    create(providers, "narrow", policy(trust(2)))
    words = f"The copy of a statement lets every service account of {GREEN} assume the role"
    result = providers.setup(*COPY, "--dry-run")
    assert result.err.count("warning: ") == 1
    assert f"role/wide: {words}" in result.err
    notes = {each["role"]: each["notes"] for each in json.loads(providers.setup(*COPY, "--json").out)["roles"]}
    narrow, wide = (notes[f"role arn:aws:iam::123456789012:role/{each}"] for each in ("narrow", "wide"))
    assert narrow == []
    assert wide[0].startswith(words)


def test_dry_run_shows_the_difference_and_the_exit_code(providers: Account) -> None:
    create(providers, "app", policy(trust(1)))
    result = providers.setup(*COPY, "--dry-run", "--diff", "--exit-code")
    assert result.status == 2
    assert "+ " in result.out
    assert GREEN_KEY in result.out
    assert policies(providers)["app"] == policy(trust(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cluster",), "one of the arguments --like --retire is required"),
        (("cluster", "--like", BLUE, "--issuer", BLUE), "--like and the new cluster have the same issuer"),
        (("cluster", "--like", "http://oidc.example.com/a", "--issuer", BLUE), "https"),
        ((*COPY, "--trust-policy-limit", "9000"), "--trust-policy-limit is 9000, which IAM does not allow. Use 2048"),
    ],
)
def test_wrong_usage_exits_with_status_two(
    account: Account, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        result = account.setup(*arguments)
        status, text = result.status, result.err
    except SystemExit as exc:
        status, text = int(str(exc.code)), capsys.readouterr().err
    assert status == 2
    assert message in text
