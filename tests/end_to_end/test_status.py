"""Test /status of a real daemon, and what it costs a Pod that nobody asks."""

import json
import signal
from pathlib import Path

import pytest

from sidecar.startup.lean_imports import unchecked_importers
from tests.end_to_end.test_run import PRINT_MODULES
from tests.support.fakes.scripted_sts import error_reply
from tests.support.processes import ROLE_ARN, Running, get, hour_long_reply, pod_environment, run_daemon, scripted_sts

ON_REQUEST = {"sidecar.daemon.status", "sidecar.serving.status"}
"""The modules that the daemon imports for the first request."""


def admin_url(running: Running, path: str) -> str:
    return running.ready_url.replace("/readyz", path)


@pytest.mark.parametrize("is_asked", [False, True])
async def test_modules_are_imported_on_the_first_request(tmp_path: Path, *, is_asked: bool) -> None:
    environment = pod_environment(tmp_path / "token", "")
    async with scripted_sts() as sts:
        environment["AWS_ENDPOINT_URL_STS"] = sts.url
        async with run_daemon(environment, prelude=PRINT_MODULES) as running:
            await running.logged("credentials_refreshed")
            for path in ("/livez", "/readyz", "/metrics", *(["/status"] if is_asked else [])):
                assert (await get(admin_url(running, path)))[0] == 200
            await running.stop(signal.SIGTERM)
            imported = set((await running.line_of("MODULES")).split())
    assert "sidecar.serving.admin" in imported
    assert ON_REQUEST & imported == (ON_REQUEST if is_asked else set())
    if not unchecked_importers() and "coverage" not in imported:
        assert not {"argparse", "asyncio.events", "email.parser", "html"} & imported


async def test_status_follows_the_daemon(tmp_path: Path) -> None:
    denied = error_reply(403, "AccessDenied", "Not authorized to perform x")
    async with scripted_sts(denied) as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("refresh_failed")
        _, before = await get(admin_url(running, "/status"))
        sts.replies = [hour_long_reply()]
        (tmp_path / "token").touch()
        await running.logged("credentials_refreshed")
        await get(running.url)
        await running.logged("credentials_served")
        _, after = await get(admin_url(running, "/status?unused=query"))
    assert before["is_available"] is False
    assert before["roles"][0]["state"] == "unavailable"
    assert before["roles"][0]["error"]["code"] == before["roles"][0]["last_call"]["code"] == "AccessDenied"
    role = after["roles"][0]
    assert (after["is_available"], role["state"], role["role_arn"], role["served"]) == (True, "ready", ROLE_ARN, 1)
    assert len(role["clients"]) == 1
    assert "ASIA" not in json.dumps(after)


async def test_only_get_is_allowed(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        assert (await get(admin_url(running, "/status"), method="POST"))[0] == 405
        assert (await get(admin_url(running, "/status/")))[0] == 404
