"""Test the number of STS calls for many processes of one Pod."""

from pathlib import Path

import trio

from tests.sdk.catalogue import BY_NAME
from tests.sdk.stage import BOTH, Stage, stage_for

PROCESSES = 32


async def test_32_processes_with_the_sidecar_cause_one_sts_call(tmp_path: Path) -> None:
    keys: list[str] = []

    async def start_and_request(stage: Stage, url: str) -> None:
        async with stage.client_process(stage.variables(url, secret=BOTH)) as client:
            keys.append(await client.gets())

    async with stage_for(BY_NAME["boto3"], tmp_path, {}) as stage:
        async with stage.daemon() as daemon, trio.open_nursery() as nursery:
            for _ in range(PROCESSES):
                nursery.start_soon(start_and_request, stage, daemon.url)
        assert len(stage.sts.tokens) == 1
        assert keys == [stage.sts.sessions[0].access_key_id] * PROCESSES
