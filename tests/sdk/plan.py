"""
Select the clients and cases to run. `make test-sdks` sets SDKS=all, which selects all of them.

Without SDKS=all, the clients that need no build run all cases except the slow ones. A client that needs a build runs
one case, if it is already built.
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
"""The cases that take seconds, because SDKs use the real clock or pause between attempts."""

FOR_EACH = "cold start"


def applies(client: Client, case: str) -> bool:
    """Return whether the case applies. A client that cannot call STS cannot sign a call."""
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
