"""Test `setup role` with an account in moto."""

import json
import re
from typing import Any

import pytest

from tests.unit.setup.conftest import ISSUER, Account

PROVIDER = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/clusters/shop"
CART = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")


@pytest.fixture
def ready(account: Account) -> Account:
    """Provide an account that already has the provider for the role."""
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    return account


def role(account: Account, name: str = "cart") -> dict[str, Any]:
    found: dict[str, Any] = account.iam.get_role(RoleName=name)["Role"]
    return found


def policy(account: Account, name: str) -> str:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    arn: str = account.iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    return arn


def attached(account: Account) -> list[str]:
    found = account.iam.list_attached_role_policies(RoleName="cart")["AttachedPolicies"]
    return [item["PolicyArn"] for item in found]


def test_role_is_created_once_with_every_setting(ready: Account) -> None:
    read, write, boundary = (policy(ready, name) for name in ("read", "write", "boundary"))
    flags = [*CART, "--path", "/pods/", "--policy-arn", read, "--policy-arn", write, "--max-session-duration", "43200"]
    flags += ["--permissions-boundary", boundary, "--tag", "team=shop", "--tag", "empty="]
    done = ready.setup(*flags)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("role arn:aws:iam::123456789012:role/pods/cart: to be created\n+ RoleName: cart\n")
    assert done.without_next().out.endswith(f"done: create the role\ndone: attach {read}\ndone: attach {write}\n")
    found = role(ready)
    assert found["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] == {
        "StringEquals": {
            "oidc.example.com/clusters/shop:aud": "sts.amazonaws.com",
            "oidc.example.com/clusters/shop:sub": "system:serviceaccount:shop:cart",
        }
    }
    assert found["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Federated": PROVIDER}
    assert (found["Path"], found["MaxSessionDuration"]) == ("/pods/", 43200)
    assert found["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"team": "shop", "empty": ""}
    assert sorted(attached(ready)) == sorted([read, write])
    again = ready.setup(*flags)
    assert again.without_next() == (0, "role arn:aws:iam::123456789012:role/pods/cart: nothing to change\n", "")
    assert ready.setup(*CART).out == again.out


def test_existing_role_keeps_its_other_settings(ready: Account) -> None:
    theirs = {
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    document = {"Version": "2012-10-17", "Statement": [theirs]}
    ready.iam.create_role(
        RoleName="cart",
        AssumeRolePolicyDocument=json.dumps(document),
        MaxSessionDuration=7200,
        Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "1"}],
    )
    old, new, boundary = (policy(ready, name) for name in ("old", "new", "boundary"))
    ready.iam.attach_role_policy(RoleName="cart", PolicyArn=old)
    more = ["--policy-arn", new, "--policy-arn", old, "--tag", "b=2", "--permissions-boundary", boundary]
    done = ready.setup(*CART, *more, "--max-session-duration", "3600")
    assert done.without_next().out.splitlines()[-5:] == [
        "done: update its trust policy",
        "done: set its maximum session duration to 3600 s",
        f"done: set its permissions boundary to {boundary}",
        "done: tag it with b",
        f"done: attach {new}",
    ]
    assert "- MaxSessionDuration: 7200\n+ MaxSessionDuration: 3600\n" in done.out
    found = role(ready)
    assert found["AssumeRolePolicyDocument"]["Statement"][0] == theirs
    assert len(found["AssumeRolePolicyDocument"]["Statement"]) == 2
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"a": "1", "b": "2"}
    assert sorted(attached(ready)) == sorted([old, new])
    assert "nothing to change" in ready.setup(*CART, *more).out


def subjects(account: Account) -> Any:
    (statement,) = role(account)["AssumeRolePolicyDocument"]["Statement"]
    return statement["Condition"]["StringEquals"]["oidc.example.com/clusters/shop:sub"]


def test_second_run_adds_another_service_account(ready: Account) -> None:
    ready.setup(*CART)
    done = ready.setup("role", "cart", "--issuer", ISSUER, "--service-account", "shop/till")
    lines = done.without_next().out.splitlines()
    assert lines[-4:-2] == ["adds shop/till", "keeps shop/cart"]
    assert re.fullmatch(r"the trust policy has \d+ of 2048 characters", lines[-2])
    assert subjects(ready) == ["system:serviceaccount:shop:cart", "system:serviceaccount:shop:till"]


@pytest.mark.parametrize("flag", ["--replace", "--remove"])
def test_replace_and_remove_flags_remove_a_service_account(ready: Account, flag: str) -> None:
    ready.setup(*CART, "--service-account", "shop/till")
    named = {"--replace": "shop/cart", "--remove": "shop/till"}[flag]
    arguments = ("role", "cart", "--issuer", ISSUER, "--service-account", named, flag)
    before = subjects(ready)
    dry = ready.setup(*arguments, "--dry-run")
    assert "removes shop/till\nkeeps shop/cart\n" in dry.out
    assert "removes shop/till" in ready.setup(*arguments, "--output", "json").err
    assert subjects(ready) == before
    done = ready.setup(*arguments)
    assert "-         - system:serviceaccount:shop:till" in done.out
    assert done.out.index("removes shop/till") < done.out.index("done: update its trust policy")
    assert subjects(ready) == "system:serviceaccount:shop:cart"
    assert "nothing to change" in ready.setup(*arguments).out


def test_last_service_account_is_not_removed(ready: Account) -> None:
    arguments = (*CART, "--remove")
    assert "there is no such role" in ready.setup(*arguments).err
    ready.setup(*CART)
    done = ready.setup(*arguments)
    assert (done.status, "IAM requires one" in done.err) == (2, True)
    assert subjects(ready) == "system:serviceaccount:shop:cart"


def test_edited_statement_is_shown_and_kept(ready: Account) -> None:
    ready.setup(*CART)
    document = role(ready)["AssumeRolePolicyDocument"]
    document["Statement"][0]["Condition"]["IpAddress"] = {"aws:SourceIp": "10.0.0.0/8"}
    ready.iam.update_assume_role_policy(RoleName="cart", PolicyDocument=json.dumps(document))
    done = ready.setup(*CART, "--service-account", "shop/till")
    assert (done.status, done.out) == (2, "")
    assert '"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}' in done.err
    assert role(ready)["AssumeRolePolicyDocument"] == document
    done = ready.setup(*CART, "--service-account", "shop/till", "--overwrite-edits")
    assert "-         aws:SourceIp: 10.0.0.0/8" in done.out
    assert subjects(ready) == ["system:serviceaccount:shop:cart", "system:serviceaccount:shop:till"]


def test_wide_statement_of_another_tool_causes_a_warning(ready: Account) -> None:
    deny = {
        "Sid": "IrsaSidecarNeverDev",
        "Effect": "Deny",
        "Principal": {"Federated": PROVIDER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": {"oidc.example.com/clusters/shop:sub": "system:serviceaccount:dev:*"}},
    }
    wide = deny | {"Sid": "Wide", "Effect": "Allow"}
    wide["Condition"] = {"StringLike": {"oidc.example.com/clusters/shop:sub": "*"}}
    document = {"Version": "2012-10-17", "Statement": [wide, deny]}
    ready.iam.create_role(RoleName="cart", AssumeRolePolicyDocument=json.dumps(document))
    done = ready.setup(*CART)
    assert "irsa-sidecar: warning: Statement Wide of its trust policy" in done.err
    assert "lets every service account" in done.err
    after = role(ready)["AssumeRolePolicyDocument"]["Statement"]
    assert after[:2] == [wide, deny]
    assert len(after) == 3
    removed = ready.setup(*CART, "--remove")
    assert "warning: shop/cart may still assume the role, because" in removed.err
    assert role(ready)["AssumeRolePolicyDocument"]["Statement"] == [wide, deny]


def test_next_run_completes_a_failed_run(ready: Account) -> None:
    missing = "arn:aws:iam::123456789012:policy/later"
    first = ready.setup(*CART, "--policy-arn", missing)
    assert (first.status, first.out.splitlines()[-1]) == (1, "done: create the role")
    assert "AWS rejected iam:AttachRolePolicy (NoSuchEntity: " in first.err
    assert policy(ready, "later") == missing
    assert ready.setup(*CART, "--policy-arn", missing).without_next().out.endswith(f"done: attach {missing}\n")
    assert attached(ready) == [missing]


@pytest.mark.parametrize("flag", ["--dry-run", "--output=yaml"])
def test_dry_run_and_output_change_nothing(ready: Account, flag: str) -> None:
    assert ready.setup(*CART, flag).status == 0
    assert ready.iam.list_roles()["Roles"] == []
    ready.setup(*CART)
    before = role(ready)
    assert ready.setup(*CART, "--service-account", "shop/till", "--tag", "a=b", flag).status == 0
    assert role(ready) == before


def test_output_contains_the_whole_existing_role(ready: Account) -> None:
    ready.setup(*CART, "--tag", "a=b")
    other = ("role", "cart", "--issuer", "https://oidc.example.net", "--service-account", "shop/cart")
    printed = json.loads(ready.setup(*other, "--output", "json").out)
    assert len(printed["AssumeRolePolicyDocument"]["Statement"]) == 2
    assert printed["Tags"] == [{"Key": "a", "Value": "b"}]


def test_missing_provider_or_audience_is_a_warning(account: Account) -> None:
    done = account.setup(*CART)
    assert done.status == 0
    assert ISSUER in done.err
    assert "`irsa-sidecar setup oidc-provider`" in done.err
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["vault"])
    assert "`irsa-sidecar setup oidc-provider --audience sts.amazonaws.com`" in account.setup(*CART).err


def test_path_of_a_role_cannot_be_changed(ready: Account) -> None:
    ready.setup(*CART)
    done = ready.setup(*CART, "--path", "/pods/")
    assert done.status == 2
    assert "which IAM cannot change" in done.err


def test_role_in_china_has_arns_of_its_partition(account: Account) -> None:
    wrong = account.setup(*CART, "--region", "cn-north-1", "--policy-arn", "arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert (wrong.status, "arn:aws-cn:" in wrong.err) == (2, True)
    done = account.setup(*CART, "--region", "cn-north-1")
    assert done.out.startswith("role arn:aws-cn:iam::123456789012:role/cart: to be created")
    (statement,) = account.client("iam", "cn-north-1").get_role(RoleName="cart")["Role"]["AssumeRolePolicyDocument"][
        "Statement"
    ]
    assert statement["Principal"]["Federated"].startswith("arn:aws-cn:iam::123456789012:oidc-provider/")
    assert statement["Condition"]["StringEquals"]["oidc.example.com/clusters/shop:aud"] == "sts.amazonaws.com"


def test_wrong_account_id_is_rejected(account: Account) -> None:
    assert "--account-id is '1'" in account.setup(*CART, "--account-id", "1").err
    done = account.setup(*CART, "--account-id", "111122223333")
    assert (done.status, done.out) == (2, "")
    assert "--account-id is 111122223333" in done.err
    assert "123456789012" in done.err
    assert account.setup(*CART, "--account-id", "123456789012").status == 0
