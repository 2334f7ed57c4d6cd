"""
Select the clients and cases to run: all of them with SDKS=all, which `make test-sdks` sets.

Otherwise only the cheap ones: the clients from the tests' own packages run all but the slow cases. Other clients that
are built already run one case.
"""

import os
from collections.abc import Iterator

from tests.sdk.build import RECIPES, is_built, missing_tools
from tests.sdk.cases import CASES
from tests.sdk.catalogue import CLIENTS, Client

IS_WHOLE = os.environ.get("SDKS") == "all"

SLOW = frozenset(
    {"secret rotated", "sidecar restarted", "slow start", "STS down, then up", "across expiry", "refusal shown"}
)
"""Cases that take seconds, because of an SDK's own clock or pauses between attempts."""

FOR_EACH = "cold start"


def applies(client: Client, case: str) -> bool:
    """Return whether the case applies: a client without STS calls signs nothing."""
    return client.has_sts or case != "signed call"


def everything() -> list[tuple[Client, str]]:
    return [(client, case) for client in CLIENTS for case in CASES if applies(client, case)]


def played() -> list[tuple[Client, str]]:
    return everything() if IS_WHOLE else [(client, case) for client, case in everything() if _is_cheap(client, case)]


def left_out() -> Iterator[str]:
    """Yield each client that runs no case, and the reason."""
    playing = {client.name for client, _ in played()}
    for client in CLIENTS:
        if client.name not in playing:
            missing = missing_tools(client)
            yield f"{client.title} ({f'no {missing[0]}' if missing else 'not built'})"


def _is_cheap(client: Client, case: str) -> bool:
    if not RECIPES[client.recipe].steps:
        return case not in SLOW
    return case == FOR_EACH and not missing_tools(client) and is_built(client)
