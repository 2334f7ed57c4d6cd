"""Find one example of each audit rule, in the inventories of tests/unit/audit. Pure."""

from collections.abc import Iterator, Mapping
from functools import cache

import msgspec

from sidecar.audit.finding import Finding
from sidecar.audit.inventory import CALLER, PODS, Account, Inventory, OidcProvider, Problem
from sidecar.audit.judge import judge
from sidecar.audit.relations import Options
from tests.unit.audit.conftest import inventory_of
from tests.unit.audit.documents import NOW, PROVIDER_ARN
from tests.unit.audit.world import CASES, RIGHT

_replace = msgspec.structs.replace

_DENIED = Problem(
    PODS,
    "The API server of context lab rejected GET /api/v1/pods?limit=500 (403): pods is forbidden",
    "Ask an administrator for the permission to list pods",
)

_EXPIRED = Problem(
    CALLER,
    "AWS rejected sts:GetCallerIdentity (ExpiredToken: The security token included in the request is expired)",
    "Sign in again (aws sso login, aws login), or use other credentials with --profile",
)


@cache
def examples() -> Mapping[str, Finding]:
    """Return the first finding of each rule, by the rule's id."""
    found: dict[str, Finding] = {}
    for inventory, options in _inventories():
        for finding in judge(inventory, NOW.timestamp(), options).findings:
            found.setdefault(finding.rule, finding)
    return found


def _inventories() -> Iterator[tuple[Inventory, Options]]:
    """Yield the whole inventory, then inventories for the rules about flags, the account and missing permissions."""
    yield inventory_of(CASES), Options()
    right = inventory_of(RIGHT)
    yield right, Options(requires_boundary=True)
    for providers in ((), (OidcProvider(PROVIDER_ARN, ("other.example",), is_detailed=True),)):
        yield _replace(right, account=_replace(right.account, providers=providers)), Options()
    yield _replace(right, cluster=_replace(right.cluster, issuer_thumbprint="ab" * 20)), Options()
    yield _replace(right, cluster=_replace(right.cluster, problems=(_DENIED,))), Options()
    yield _replace(right, account=Account(problems=(_EXPIRED,))), Options()
