"""Provide the audited world as an inventory."""

from collections.abc import Iterable

import pytest

from sidecar.audit import aws_kept, kubernetes_kept
from sidecar.audit.inventory import Account, Cluster, Instance, Inventory, Node, OidcProvider
from tests.unit.audit.documents import (
    ACCOUNT_ID,
    AUDIENCE,
    FAR_NODE,
    ISSUER,
    NEAR_NODE,
    NOW,
    OTHER_PROVIDER_ARN,
    PROVIDER_ARN,
)
from tests.unit.audit.world import CASES, Case
from tests.unit.setup.conftest import aws_environment, loader, moto, plain  # noqa: F401  fixtures

POLICY = {"PolicyName": "read", "PolicyArn": f"arn:aws:iam::{ACCOUNT_ID}:policy/read"}


def inventory_of(cases: Iterable[Case]) -> Inventory:
    """Return the inventory that an audit of these cases would read."""
    parts = [case.parts for case in cases]
    objects = [document for each in parts for document in each.objects]
    of_kind = {
        kind: [document for document in objects if document["kind"] == kind]
        for kind in ("ServiceAccount", "Pod", "NetworkPolicy")
    }
    policies = (kubernetes_kept.egress_policy(each) for each in of_kind["NetworkPolicy"])
    cluster = Cluster(
        read_at=NOW.timestamp(),
        context="lab",
        name="lab",
        issuer=ISSUER,
        service_accounts=tuple(map(kubernetes_kept.service_account, of_kind["ServiceAccount"])),
        pods=tuple(map(kubernetes_kept.pod, of_kind["Pod"])),
        egress_policies=tuple(policy for policy in policies if policy),
        nodes=(Node(NEAR_NODE, "i-1"), Node(FAR_NODE, "i-2")),
    )
    account = Account(
        account_id=ACCOUNT_ID,
        roles=tuple(aws_kept.detailed_role(role, [POLICY], []) for each in parts for role in each.roles),
        providers=(
            OidcProvider(PROVIDER_ARN, (AUDIENCE, "aws.example"), is_detailed=True),
            OidcProvider(OTHER_PROVIDER_ARN, (AUDIENCE,), is_detailed=True),
        ),
        associations=tuple(aws_kept.association(one) for each in parts for one in each.associations),
        instances=(
            Instance("i-1", hop_limit=1, is_token_required=True),
            Instance("i-2", hop_limit=2, is_token_required=True),
        ),
    )
    return Inventory(cluster, account)


@pytest.fixture(scope="session")
def world() -> Inventory:
    return inventory_of(CASES)
