"""Test the reading of an AWS account from fake responses: all its parts, and faults of single calls."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing

from sidecar.audit import collect_aws, kubernetes_kept
from sidecar.audit.collect_aws import MAX_CALLS, read_account
from sidecar.audit.inventory import Account, Cluster, Node
from sidecar.errors import SidecarError
from sidecar.setup.aws import Aws
from sidecar.setup.aws_error import AwsError
from sidecar.setup.resources import Account as CallerAccount
from tests.support.processes import GUARD_SECONDS
from tests.unit.audit.documents import ISSUER, NOW, PROVIDER_ARN, role, role_arn, service_account, statement, subject

Answer = Callable[..., Mapping[str, Any]]

CLUSTER = Cluster(read_at=NOW.timestamp(), name="lab", issuer=ISSUER, nodes=(Node("node-1", "i-1"),))


def denied(action: str) -> Answer:
    def reject(**_parameters: Any) -> Mapping[str, Any]:
        raise AwsError("AccessDenied", f"AWS rejected {action} (AccessDenied: no)", fix=f"Allow {action}")

    return reject


class FakeAws:
    """An account with a function for the response to each operation. The account records the calls."""

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Any] = {
            "ListRoles": lambda: {"Roles": [role("app", statement(subject("shop")))]},
            "GetRole": lambda RoleName: {"Role": role(RoleName, statement(subject("shop")))},  # noqa: N803
            "ListAttachedRolePolicies": lambda RoleName: {"AttachedPolicies": []},  # noqa: ARG005, N803
            "ListRolePolicies": lambda RoleName: {"PolicyNames": ["inline"]},  # noqa: ARG005, N803
            "ListOpenIDConnectProviders": lambda: {"OpenIDConnectProviderList": [{"Arn": PROVIDER_ARN}]},
            "GetOpenIDConnectProvider": lambda **_: {"ClientIDList": ["sts.amazonaws.com"]},
            "ListPodIdentityAssociations": lambda **_: {"associations": [self.association]},
            "DescribePodIdentityAssociation": lambda **_: {
                "association": self.association | {"roleArn": role_arn("x")}
            },
            "DescribeInstances": lambda **_: {"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]},
        } | answers
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    association = {"namespace": "shop", "serviceAccount": "cart", "associationId": "a-1"}  # noqa: RUF012

    def account(self) -> CallerAccount:
        return CallerAccount("123456789012", "aws")

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        self.calls.append((service, operation, parameters))
        answer: Mapping[str, Any] = self.answers[operation](**parameters)
        return answer


async def read(aws: FakeAws, cluster: Cluster = CLUSTER) -> Account:
    return await read_account(cast("Aws", aws), cluster, lambda _text: None)


async def test_every_part_of_the_account_is_read() -> None:
    account = await read(FakeAws())
    assert account.problems == ()
    assert account.roles[0].is_detailed
    assert [policy.name for policy in account.roles[0].policies] == ["inline"]
    assert account.providers[0].client_ids == ("sts.amazonaws.com",)
    assert account.associations[0].role_arn == role_arn("x")
    assert account.instances[0].instance_id == "i-1"


@pytest.mark.parametrize(
    ("issuer", "problems"),
    [
        ("https://oidc.eks.eu-west-1.amazonaws.com/id/A", ["the name of the EKS cluster is unknown"]),
        ("https://oidc.example.com/shop", []),
    ],
)
async def test_unnamed_cluster_of_eks_is_a_problem(issuer: str, problems: list[str]) -> None:
    """Only EKS has associations, and EKS lists them by the cluster's name."""
    account = await read(FakeAws(), msgspec.structs.replace(CLUSTER, name="", issuer=issuer))
    assert [problem.reason for problem in account.problems] == problems
    assert account.associations == ()


async def test_calls_are_those_of_the_printed_policy() -> None:
    aws = FakeAws()
    await read(aws)
    assert {f"{service}:{operation}" for service, operation, _ in aws.calls} == set(collect_aws.ACTIONS)


@pytest.mark.parametrize(
    "operation",
    [
        "ListRoles",
        "GetRole",
        "ListAttachedRolePolicies",
        "ListOpenIDConnectProviders",
        "GetOpenIDConnectProvider",
        "ListPodIdentityAssociations",
        "DescribePodIdentityAssociation",
        "DescribeInstances",
    ],
)
async def test_denied_call_is_one_problem_and_the_rest_is_read(operation: str) -> None:
    account = await read(FakeAws(**{operation: denied(operation)}))
    assert len(account.problems) == 1
    assert account.problems[0].fix == f"Allow {operation}"
    assert account.account_id == "123456789012"
    parts = (account.roles, account.providers, account.associations, account.instances)
    assert sum(map(bool, parts)) >= 3


async def test_same_problem_of_many_roles_is_one_problem() -> None:
    names = [f"role-{number}" for number in range(30)]
    roles = [role(name, statement(subject("shop"))) for name in names]
    account = await read(FakeAws(ListRoles=lambda: {"Roles": roles}, GetRole=denied("GetRole")))
    assert [problem.reason for problem in account.problems] == [
        "30 of 30 failed. AWS rejected GetRole (AccessDenied: no)"
    ]
    assert len(account.roles) == 30


async def test_only_roles_that_concern_the_cluster_have_details() -> None:
    service = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    roles = [role("unrelated", service), role("named", service), role("trusting", statement(subject("shop")))]
    cluster = Cluster(
        read_at=NOW.timestamp(),
        issuer=ISSUER,
        service_accounts=(kubernetes_kept.service_account(service_account("shop", role=role_arn("named"))),),
    )
    aws = FakeAws(ListRoles=lambda: {"Roles": roles})
    await read(aws, cluster)
    read_roles = {parameters["RoleName"] for _, operation, parameters in aws.calls if operation == "GetRole"}
    assert read_roles == {"named", "trusting"}


async def test_response_in_an_unknown_form_is_a_problem() -> None:
    account = await read(FakeAws(ListRoles=lambda: {"Roles": [{"Arn": 7}]}))
    assert "unknown form" in account.problems[0].reason


async def test_number_of_calls_at_once_is_limited() -> None:
    """Each call waits until all other tasks have tried to start theirs."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def call(number: int) -> int:
        begun.release()
        may_end.wait()
        return number

    results: list[int | None] = []

    async def read_all() -> None:
        results.extend(await reader.each("roles", range(100), call))

    reader = collect_aws._Reader(cast("Aws", FakeAws()), lambda _text: None)
    try:
        with trio.fail_after(GUARD_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all)
                for _ in range(MAX_CALLS):
                    await trio.to_thread.run_sync(begun.acquire, abandon_on_cancel=True)
                await trio.testing.wait_all_tasks_blocked()
                assert reader._limiter.borrowed_tokens == MAX_CALLS
                may_end.set()
    finally:
        may_end.set()
    assert results == [*range(100)]


async def test_account_without_credentials_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = FakeAws()

    def fail() -> CallerAccount:
        raise SidecarError("AWS could not be called (Unable to locate credentials)", fix="Sign in")

    monkeypatch.setattr(aws, "account", fail)
    account = await read(aws)
    assert [problem.part for problem in account.problems] == ["AWS account"]
    assert aws.calls == []
