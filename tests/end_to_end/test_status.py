"""Test /status of a real daemon, and its imports before and after the first request."""

import json
import signal
from pathlib import Path

import pytest

from sidecar.startup.lean_imports import unchecked_importers
from tests.end_to_end.test_no_secret_leaves import exchange_bytes
from tests.end_to_end.test_run import PRINT_MODULES
from tests.support.fakes.scripted_sts import error_reply
from tests.support.processes import ROLE_ARN, Running, get, hour_long_reply, pod_environment, run_daemon, scripted_sts

STATUS = {"sidecar.daemon.status", "sidecar.serving.status"}
PAGE = {"sidecar.serving.status_page", "sidecar.serving.status_table"}
ON_REQUEST: dict[str, set[str]] = {"/metrics": set(), "/status": STATUS, "/": STATUS | PAGE}
"""The modules that the daemon imports for the first request, by the path of the request."""


def admin_url(running: Running, path: str) -> str:
    return running.ready_url.replace("/readyz", path)


@pytest.mark.parametrize("path", ON_REQUEST)
async def test_modules_are_imported_on_the_first_request(tmp_path: Path, path: str) -> None:
    environment = pod_environment(tmp_path / "token", "")
    async with scripted_sts() as sts:
        environment["AWS_ENDPOINT_URL_STS"] = sts.url
        async with run_daemon(environment, prelude=PRINT_MODULES) as running:
            await running.logged("credentials_refreshed")
            for each in ("/livez", "/readyz", path):
                assert (await get(admin_url(running, each)))[0] == 200
            await running.stop(signal.SIGTERM)
            imported = set((await running.line_of("MODULES")).split())
    assert "sidecar.serving.admin" in imported
    assert (STATUS | PAGE) & imported == ON_REQUEST[path]
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


async def test_page_is_text_for_curl_and_html_for_browsers(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        text = await exchange_bytes(running.ready_url, b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        page = await exchange_bytes(
            running.ready_url, b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n"
        )
        foreign = await exchange_bytes(running.ready_url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        metrics = await exchange_bytes(running.ready_url, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert foreign.startswith(b"HTTP/1.1 403 ")
    assert metrics.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in text
    assert b"cart" in text
    assert b"Content-Type: text/html; charset=utf-8\r\n" in page
    assert b"\r\nContent-Security-Policy: default-src 'none'; " in page
    assert ROLE_ARN.encode() in page
    for response in (text, page):
        assert b"\r\nX-Content-Type-Options: nosniff\r\n" in response
        assert b"ASIA" not in response


@pytest.mark.parametrize("setting", [["--admin-page", "off"], ["--admin-page", "on"], []])
async def test_page_can_be_turned_off(tmp_path: Path, setting: list[str]) -> None:
    environment = {"IRSA_SIDECAR_ADMIN_PAGE": "off"} if not setting else {}
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:9", **environment)
    async with run_daemon(environment, *setting) as running:
        assert (await get(admin_url(running, "/")))[0] == (200 if "on" in setting else 404)
        assert (await get(admin_url(running, "/status")))[0] == 200


async def test_only_get_is_allowed(tmp_path: Path) -> None:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        assert (await get(admin_url(running, "/status"), method="POST"))[0] == 405
        assert (await get(admin_url(running, "/status/")))[0] == 404
