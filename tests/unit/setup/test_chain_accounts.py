"""Test `setup role --chain-to` with two accounts in moto."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from sidecar.config.roles_file import parse_roles
from sidecar.role import RoleDefaults
from sidecar.setup import chain_apply
from sidecar.setup.aws import Aws
from sidecar.setup.aws_error import AwsError
from sidecar.setup.plan import Call
from tests.unit.setup.conftest import ISSUER, Account

CART = "arn:aws:iam::123456789012:role/cart"
DATA = "arn:aws:iam::444455556666:role/data"
POLICY = "irsa-sidecar-chain-444455556666-data"
CREATE = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")
CHAIN = ("role", "cart", "--chain-to", DATA)
BOTH = (*CHAIN, "--chain-profile", "data")
THEIRS = {"Sid": "Theirs", "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}


class Accounts:
    """The account of the Pods, and another account whose profile is `data`."""

    def __init__(self, own: Account, tmp_path: Path) -> None:
        self.own = own
        keys = own.client("sts").assume_role(
            RoleArn="arn:aws:iam::444455556666:role/administrator", RoleSessionName="test"
        )
        key, secret, token = (keys["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
        self._path = tmp_path / "credentials"
        self.use_profile(key, secret, token)
        self.iam = boto3.client("iam", aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)

    def use_profile(self, key: str, secret: str, token: str = "") -> None:
        """Write the profile `data` of the other account with these keys, and the profile `own` with other keys."""
        lines = ["[own]", "aws_access_key_id = AKIAFAKE", "aws_secret_access_key = secret"]
        lines += ["[data]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}"]
        self._path.write_text("\n".join([*lines, *([f"aws_session_token = {token}"] if token else [])]))

    @staticmethod
    def user(iam: Any, action: str) -> tuple[str, str]:
        """Create a user with this permission, and return the keys."""
        iam.create_user(UserName="person")
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
        iam.put_user_policy(UserName="person", PolicyName="only", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName="person")["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def create_data(self, *statements: Any) -> None:
        document = {"Version": "2012-10-17", "Statement": list(statements or (THEIRS,))}
        self.iam.create_role(RoleName="data", AssumeRolePolicyDocument=json.dumps(document))

    def trust(self) -> Any:
        return self.iam.get_role(RoleName="data")["Role"]["AssumeRolePolicyDocument"]["Statement"]

    def permission(self) -> Any:
        return self.own.iam.get_role_policy(RoleName="cart", PolicyName=POLICY)["PolicyDocument"]["Statement"]


@pytest.fixture
def accounts(account: Account, tmp_path: Path) -> Iterator[Accounts]:
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    found = Accounts(account, tmp_path)
    yield found
    found.iam.close()


def test_both_accounts_are_changed_once(accounts: Accounts) -> None:
    accounts.create_data()
    flags = (*CREATE, *BOTH[2:], "--external-id", "agreed", "--chain-tags")
    done = accounts.own.setup(*flags)
    assert (done.status, done.err) == (0, "")
    assert done.out.index("done: write the inline policy") < done.out.index("done: update its trust policy")
    actions = ["sts:AssumeRole", "sts:TagSession"]
    assert accounts.permission() == [{"Effect": "Allow", "Action": actions, "Resource": DATA}]
    theirs, ours = accounts.trust()
    assert theirs == THEIRS
    assert (ours["Principal"], ours["Action"]) == ({"AWS": CART}, actions)
    assert ours["Condition"] == {"StringEquals": {"sts:ExternalId": "agreed"}}
    again = accounts.own.setup(*BOTH, "--dry-run", "--exit-code")
    assert (again.status, again.err) == (0, "")
    assert again.out.count("nothing to change") == 2
    assert "external_id: agreed" in again.out


def test_printed_entry_is_valid_in_a_roles_file(accounts: Accounts) -> None:
    accounts.create_data()
    done = accounts.own.setup(*CREATE, *BOTH[2:], "--external-id", "0123")
    entry = done.out[done.out.index("- name: default") :]
    (role,) = parse_roles(entry, "annotation", RoleDefaults(token_file="/token"))
    assert (role.role_arn, role.final_arn, role.chain[0].external_id) == (CART, DATA, "0123")


def test_without_profile_the_statement_is_printed(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    done = accounts.own.setup(*CHAIN, "--external-id", "agreed")
    assert (done.status, done.err) == (0, "")
    assert f"role {DATA}: not changed. --chain-profile is not set." in done.out
    assert "An administrator of account 444455556666 must add this statement" in done.out
    statement = json.loads(done.out[done.out.index("\n{\n") : done.out.index("\n}\n") + 2])
    accounts.create_data(THEIRS, statement)
    assert accounts.own.setup(*BOTH).out.count("nothing to change") == 2


@pytest.mark.parametrize(("allowed", "changed"), [("sts:*", 1), ("iam:GetRole", 2)])
def test_missing_rights_in_one_account_are_a_partial_result(accounts: Accounts, allowed: str, changed: int) -> None:
    accounts.create_data()
    accounts.own.setup(*CREATE)
    accounts.use_profile(*accounts.user(accounts.iam, allowed))
    accounts.own.use(*accounts.user(accounts.own.iam, "*"))
    done = accounts.own.setup(*BOTH, "--external-id", "agreed")
    accounts.own.server.allow_requests(10**9)
    assert done.status == 1
    assert "Traceback" not in done.out + done.err
    assert "done: write the inline policy" in done.out
    assert "must add this statement" in done.out
    assert "AWS rejected iam:" in done.out
    assert done.out.count("to be changed") == changed
    assert accounts.trust() == [THEIRS]


def test_json_contains_both_roles(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    accounts.create_data()
    dry = json.loads(accounts.own.setup(*BOTH, "--json", "--dry-run").out)
    assert [each["done"] for each in (*dry["changes"], *dry["chain"]["changes"])] == [False, False]
    assert accounts.trust() == [THEIRS]
    found = json.loads(accounts.own.setup(*BOTH, "--json").out)
    assert [each["done"] for each in (*found["changes"], *found["chain"]["changes"])] == [True, True]
    assert (found["action"], found["chain"]["action"], found["chain"]["problem"]) == ("change", "change", None)
    assert found["chain"]["after"]["AssumeRolePolicyDocument"]["Statement"][1] == found["chain"]["statement"]
    assert found["chain"]["roles_entry"]["chain"] == [{"role_arn": DATA}]


def test_remove_restores_both_roles(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    accounts.create_data()
    accounts.own.setup(*BOTH, "--external-id", "agreed")
    done = accounts.own.setup(*BOTH, "--remove")
    assert done.status == 0
    assert f"removes the permission to assume {DATA}" in done.out
    assert f"removes the trust in {CART}" in done.out
    assert accounts.trust() == [THEIRS]
    assert accounts.own.iam.list_role_policies(RoleName="cart")["PolicyNames"] == []
    assert accounts.own.setup(*BOTH, "--remove").out.count("nothing to change") == 2


def test_missing_role_needs_a_flag_to_be_created(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    done = accounts.own.setup(*BOTH)
    assert (done.status, done.out) == (2, "")
    assert "account 444455556666 has no such role" in done.err
    assert "--chain-create" in done.err
    assert accounts.own.iam.list_role_policies(RoleName="cart")["PolicyNames"] == []
    done = accounts.own.setup(*BOTH, "--chain-create")
    assert (done.status, "has no permissions" in done.err) == (0, True)
    (statement,) = accounts.trust()
    assert statement["Principal"] == {"AWS": CART}
    removed = accounts.own.setup(*BOTH, "--remove")
    assert (removed.status, "IAM requires one" in removed.err) == (2, True)


def test_chain_within_one_account_needs_no_profile(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    target = "arn:aws:iam::123456789012:role/reports"
    done = accounts.own.setup("role", "cart", "--chain-to", target, "--chain-create")
    assert done.status == 0
    found = accounts.own.iam.get_role(RoleName="reports")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [each["Principal"] for each in found] == [{"AWS": CART}]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--external-id", "x"), "--external-id is set, but --chain-to is not"),
        (("--chain-to", "arn:aws:iam::444455556666:role/*"), "not the ARN of one role"),
        (("--chain-to", "data"), "not the ARN of one role"),
        (("--chain-to", CART), "which is the role itself"),
        (("--chain-to", "arn:aws-cn:iam::444455556666:role/data"), "the partition aws"),
        (("--chain-to", DATA, "--external-id", "${aws:x}"), "STS does not accept"),
        (("--chain-to", DATA, "--chain-profile", "own"), "belong to account 123456789012"),
        (("--chain-to", DATA, "--chain-profile", "nobody"), "nobody"),
        (("--chain-to", "arn:aws:iam::444455556666:role/pods/data", "--chain-profile", "data"), f"has the ARN {DATA}"),
        (("--chain-to", DATA, "--replace"), "--replace is set, but --service-account is not"),
    ],
)
def test_wrong_flag_changes_nothing(accounts: Accounts, flags: tuple[str, ...], problem: str) -> None:
    accounts.own.setup(*CREATE)
    accounts.create_data()
    done = accounts.own.setup("role", "cart", *(() if "--chain-to" in flags else CREATE[2:]), *flags)
    assert (done.status, done.out) == (2, "")
    assert problem in done.err
    assert accounts.own.iam.list_role_policies(RoleName="cart")["PolicyNames"] == []


def test_too_long_trust_policy_changes_nothing(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    accounts.create_data(THEIRS | {"Sid": "A" * 1900})
    done = accounts.own.setup(*BOTH)
    assert (done.status, done.out) == (2, "")
    assert "Let the role trust fewer roles" in done.err
    assert accounts.own.setup(*BOTH, "--trust-policy-limit", "4096").status == 0


def test_output_has_the_permission_and_changes_nothing(accounts: Accounts) -> None:
    accounts.own.setup(*CREATE)
    done = accounts.own.setup(*CHAIN, "--external-id", "agreed", "--output", "cloudformation")
    properties = yaml.safe_load(done.out)["Resources"]["Role"]["Properties"]
    assert properties["Policies"][0]["PolicyName"] == POLICY
    assert "must add this statement" in done.err
    assert 'resource "aws_iam_role_policy"' in accounts.own.setup(*CHAIN, "--output", "terraform").out
    assert accounts.own.iam.list_role_policies(RoleName="cart")["PolicyNames"] == []


@pytest.mark.parametrize(("failures", "status"), [(2, 0), (chain_apply.ATTEMPTS, 1)])
def test_trust_update_is_retried_until_iam_knows_a_new_role(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, failures: int, status: int
) -> None:
    """IAM rejects a principal that was created a moment before (MalformedPolicyDocument)."""
    accounts.create_data()
    apply, left = Aws.apply, [AwsError("MalformedPolicyDocument", "Invalid principal")] * failures

    def fail_first(self: Aws, call: Call) -> None:
        if call.operation == "UpdateAssumeRolePolicy" and left:
            raise left.pop()
        apply(self, call)

    monkeypatch.setattr(Aws, "apply", fail_first)
    monkeypatch.setattr(chain_apply, "PAUSE_SECONDS", 0)
    done = accounts.own.setup(*CREATE, *BOTH[2:])
    assert (done.status, left) == (status, [])
    assert ("must add this statement" in done.out) == bool(status)
