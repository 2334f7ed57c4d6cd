"""Run every client in every case, each in new processes, and check that each known limit still exists."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sdk.cases import CASES
from tests.sdk.catalogue import Client
from tests.sdk.client_process import Unmet, must
from tests.sdk.limits import limit_of
from tests.sdk.plan import played
from tests.sdk.stage import Remedy, stage_for


async def unmet_requirement(client: Client, case: str, directory: Path, remedy: Remedy) -> str | None:
    """
    Run the case. Return None if the client passed, or else a description of the actual result.

    A client must never call the metadata service, because that service has the node's role.
    """
    try:
        async with stage_for(client, directory, remedy) as stage:
            await CASES[case](stage)
            must(not stage.trap.lines, f"the metadata service got a request: {stage.trap.lines}")
    except BaseExceptionGroup as group:
        unmet, other = group.split(Unmet)
        if unmet is None or other is not None:
            raise
        return str(_first_leaf(unmet))
    return None


def _first_leaf(error: BaseException) -> BaseException:
    return _first_leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@pytest.mark.parametrize(
    ("client", "case"), [pytest.param(client, case, id=f"{client.name}-{case}") for client, case in played()]
)
async def test_client_passes_the_case_or_shows_its_limit(
    client: Client, case: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("sdk", (client.name, client.version, case))
    limit = limit_of(client.name, case)
    unmet = await unmet_requirement(client, case, tmp_path, {})
    if limit is None:
        assert unmet is None
        return
    assert unmet is not None, f"{client.title} now passes: remove the limit from limits.py"
    assert limit.happens in unmet
    if limit.remedy:
        remedied = tmp_path / "remedied"
        remedied.mkdir()
        assert await unmet_requirement(client, case, remedied, limit.remedy) is None
