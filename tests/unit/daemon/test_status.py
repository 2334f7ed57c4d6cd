"""Test the state that a daemon reports about itself, in virtual time."""

import json

import pytest
import trio
from trio.testing import MockClock

from sidecar import __version__
from sidecar.daemon.daemon import Daemon
from sidecar.daemon.status import STUCK_CODE, respond, status_of
from sidecar.errors import NextStep
from sidecar.serving import http, status
from sidecar.serving.admin import STALLED_SECONDS
from sidecar.serving.audit import MAX_CLIENTS, Usage
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.peer import Peer
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.served import GET, SECRET, serving, settle
from tests.support.users import APP, OTHER, needs_root
from tests.unit.daemon.several_roles import Pod


def role_of(daemon: Daemon, wall: FakeWall, name: str = "default") -> status.RoleStatus:
    return next(role for role in status_of(daemon, wall.clock.now()).roles if role.name == name)


async def test_healthy_role_shows_its_times_and_its_last_call(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        await trio.sleep(100)
        found = status_of(served.daemon, wall.clock.now())
        role = found.roles[0]
    assert found.version == __version__
    assert found.uptime_seconds == pytest.approx(100, abs=2)
    assert found.is_available
    assert (role.name, role.state, role.error) == ("default", status.READY, None)
    assert role.role_arn == "arn:aws:iam::111122223333:role/cart"
    assert role.expires_in_seconds == pytest.approx(3500, abs=2)
    assert 1000 < role.next_refresh_in_seconds < 2400
    assert role.last_call is not None
    assert (role.last_call.code, role.last_call.http_status) == (status.SUCCESS, 200)
    assert role.last_call.seconds_ago == pytest.approx(100, abs=2)


async def test_failed_refresh_shows_its_error_and_duration(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        served.sts.error = refusal("AccessDenied", NextStep.WAIT)
        served.sts.latency_seconds = 2.0
        await trio.sleep(2700)
        failing = role_of(served.daemon, wall)
        await trio.sleep(1000)
        expired = role_of(served.daemon, wall)
    assert (failing.state, expired.state) == (status.FAILING, status.UNAVAILABLE)
    assert failing.error is not None
    assert failing.error.code == "AccessDenied"
    assert failing.last_call is not None
    assert (failing.last_call.code, failing.last_call.http_status) == ("AccessDenied", 400)
    assert failing.last_call.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert expired.expires_in_seconds is not None
    assert expired.expires_in_seconds < 0


async def test_role_is_starting_until_its_first_call_ends(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    sts = FakeExchange(wall.time)
    sts.latency_seconds = 5.0
    async with serving(autojump_clock, wall, volume, sts) as served:
        await trio.sleep(1)
        role = role_of(served.daemon, wall)
    assert (role.state, role.error, role.last_call, role.expires_in_seconds) == (status.STARTING, None, None, None)


async def test_step_of_the_wall_clock_does_not_change_ages(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        await served.send(GET)
        await trio.sleep(50)
        wall.step(-7200)
        role = role_of(served.daemon, wall)
    assert role.last_call is not None
    assert role.last_call.seconds_ago == pytest.approx(50, abs=2)
    assert role.clients[0].seconds_ago == pytest.approx(50, abs=2)


async def test_every_served_response_is_counted(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        for _ in range(25):
            await served.send(GET)
        await served.send(GET.replace(SECRET.encode(), b"wrong"))
        await trio.sleep(2)  # responses above the budget of log lines are counted once a second
        role = role_of(served.daemon, wall)
    assert role.served == 25
    assert len(role.clients) == 1


@needs_root
async def test_clients_are_listed_by_user(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        await served.ask_as(APP)
        await served.ask_as(OTHER)
        await served.ask_as(APP)
        await settle()
        clients = role_of(served.daemon, wall).clients
    assert [client.uid for client in clients] == [APP, OTHER]


def test_usage_keeps_the_newest_users() -> None:
    usage = Usage()
    for uid in range(MAX_CLIENTS + 3):
        usage.add(1, Peer(uid, None), float(uid))
    usage.add(40, None, 99.0)
    assert [uid for uid, _ in usage.newest_clients()] == list(range(MAX_CLIENTS + 2, 2, -1))
    assert usage.served == MAX_CLIENTS + 43


async def test_stuck_loop_is_an_error(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        refresher = served.daemon.role.refresher
        refresher.health = refresher.health._replace(checked_at=trio.current_time() - STALLED_SECONDS - 1)
        role = role_of(served.daemon, wall)
    assert role.state == status.FAILING
    assert role.error is not None
    assert role.error.code == STUCK_CODE


async def test_reloaded_role_keeps_its_last_call(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    before = role_of(pod.daemon, pod.wall, "default").last_call
    pod.daemon.roles.replace([pod.role("default", duration_seconds=1800), pod.role("reporting")])
    after = role_of(pod.daemon, pod.wall, "default").last_call
    assert before is not None
    assert after == before


async def test_new_role_has_no_use_yet(autojump_clock: MockClock, pod: Pod) -> None:
    pod.daemon.roles.replace([pod.role("three")])
    role = role_of(pod.daemon, pod.wall, "three")
    assert (role.served, role.clients, role.last_call) == (0, (), None)


async def test_response_contains_no_secret(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        await served.send(GET)
        request = http.parse(b"GET /status HTTP/1.1\r\nHost: 10.0.0.7:4773\r\n\r\n")
        assert isinstance(request, http.Request)
        response = respond(request, served.daemon, wall.clock.now())
    head, _, body = response.content.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json\r\n" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert json.loads(body)["roles"][0]["served"] == 1
    for secret in (b"secret-1", b"session-1", b"ASIAFAKE", SECRET.encode(), served.sts.tokens[0].encode()):
        assert secret not in response.content


@pytest.mark.parametrize("path", [b"/status", b"/"])
async def test_access_key_in_an_error_is_hidden(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, path: bytes
) -> None:
    sts = FakeExchange(wall.time)
    sts.error = refusal("ASIAABCDEFGHIJKLMNOP", NextStep.WAIT)
    async with serving(autojump_clock, wall, volume, sts) as served:
        await trio.sleep(1)
        shown = respond(http.Request(path, b"HTTP/1.1", {}, 0), served.daemon, wall.clock.now()).content
    assert b"***" in shown
    assert b"ASIA" not in shown


async def test_loopback_accepts_only_its_own_hosts(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """DNS rebinding sends another name. In a Pod, the kubelet and Prometheus use every name."""
    async with serving(autojump_clock, wall, volume) as served:
        for host, expected in ((b"evil.example:4773", 403), (b"LocalHost:4773", 200), (b"127.0.0.1", 200)):
            for path in (b"/status", b"/"):
                request = http.Request(path, b"HTTP/1.1", {b"host": host}, 0)
                assert respond(request, served.daemon, wall.clock.now(), LOOPBACK).status == expected
                assert respond(request, served.daemon, wall.clock.now(), None).status == 200
