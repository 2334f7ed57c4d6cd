"""Test how the daemon uses the client's user and process: allow_uids, and the fields of the audit log."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.daemon import make_daemon
from sidecar.refresh.refresher import Sources
from sidecar.serving import peer, peer_process, proc_net
from sidecar.serving.audit import LINES_A_SECOND
from sidecar.serving.peer import Peer, Peers
from sidecar.serving.sock_diag import SockDiag
from sidecar.sts.client import ExchangeResult
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.processes import ROLE_ARN, pod_environment, run_daemon, scripted_sts
from tests.support.served import GET, PUT, Served, serving, settle, status_of
from tests.support.users import APP, BECOME, OTHER, needs_linux, needs_root
from tests.unit.daemon.test_daemon import make_config, make_log

pytestmark = needs_linux

FOR_APP = frozenset({APP})
WITHOUT_SECRET = GET[: GET.index(b"Authorization")] + b"\r\n"


def body_of(response: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.partition(b"\r\n\r\n")[2])
    return body


@needs_root
async def test_only_users_in_allow_uids_get_credentials(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with serving(autojump_clock, wall, volume, allow_uids=FOR_APP) as served:
        assert status_of(await served.ask_as(APP)) == 200
        for uid in (OTHER, 0):
            denied = await served.ask_as(uid)
            assert status_of(denied) == 403
            assert f"User id {uid} may not have the credentials of role 'default'" in body_of(denied)["message"]
        assert status_of(await served.ask_as(APP, WITHOUT_SECRET)) == 401
    assert [line["uid"] for line in served.logged("credentials_served")] == [APP]
    logged = [(line["role_name"], line["reason"], line["uid"]) for line in served.logged("request_denied")]
    assert logged == [
        ("default", "wrong user", OTHER),
        ("default", "wrong user", 0),
        ("default", "no secret", APP),
    ]
    assert served.statuses == {200: 1, 403: 2, 401: 1}
    assert served.logged("uid_lookup_unavailable") == []


async def test_served_credentials_are_logged_with_user_and_process(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        peer_process, "_newest_processes", lambda: [os.getpid()]
    )  # without other processes that started during the test
    async with serving(autojump_clock, wall, volume) as served:
        assert status_of(await served.send(GET)) == 200
        assert status_of(await served.send(GET[:9], GET[9:])) == 200
    logged = [(line["uid"], line["pid"]) for line in served.logged("credentials_served")]
    assert logged == [(os.geteuid(), os.getpid())] * 2


@needs_root
async def test_denied_clients_do_not_delay_an_allowed_client(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connect 64 denied clients and an allowed client at once, without netlink. The allowed client waits for a read."""
    readings: list[dict[str, bytes]] = []
    read = proc_net.read_tables

    def counted() -> dict[str, bytes]:
        readings.append(read() | {"padding": b"x" * (2 * 1024 * 1024)})
        return readings[-1]

    def no_netlink(_self: SockDiag) -> None:
        raise OSError

    monkeypatch.setattr(SockDiag, "__init__", no_netlink)
    monkeypatch.setattr(proc_net, "MAX_TABLE_BYTES", 1 << 27)  # large enough for all other sockets of this machine
    monkeypatch.setattr(proc_net, "read_tables", counted)
    statuses: list[tuple[int, int, float]] = []

    async def send(served: Served, uid: int) -> None:
        status = status_of(await served.ask_as(uid))
        statuses.append((uid, status, trio.current_time()))

    async with serving(autojump_clock, wall, volume, allow_uids=FOR_APP) as served:
        readings.clear()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for uid in (*[OTHER] * 32, APP, *[OTHER] * 32):
                nursery.start_soon(send, served, uid)
    assert [(status, at - began < 0.8) for uid, status, at in statuses if uid == APP] == [(200, True)]
    assert {status for uid, status, _ in statuses if uid == OTHER} == {403}
    assert len(readings) <= 4


@needs_root
async def test_imds_endpoint_applies_allow_uids(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume, allow_uids=FOR_APP) as served:
        token = (await served.ask_as(OTHER, PUT, imds=True)).rpartition(b"\n")[2]
        path = b"/latest/meta-data/iam/security-credentials/cart"
        request = b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-aws-ec2-metadata-token: " + token + b"\r\n\r\n"
        assert [status_of(await served.ask_as(uid, request, imds=True)) for uid in (APP, OTHER)] == [200, 403]
    logged = [(line["endpoint"], line["uid"]) for line in served.events if "peer" in line]
    assert logged == [("imds", APP), ("imds", OTHER)]


class LateExchange(FakeExchange):
    """An exchange that returns when `may_respond` is set."""

    may_respond: trio.Event

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        await self.may_respond.wait()
        return await super().__call__(request, token)


@needs_root
async def test_request_is_held_only_for_an_allowed_user(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    sts = LateExchange(wall.time)
    sts.may_respond = trio.Event()
    async with serving(autojump_clock, wall, volume, sts, allow_uids=FOR_APP) as served:
        start = trio.current_time()
        denied = await served.ask_as(OTHER)
        assert (status_of(denied), trio.current_time()) == (403, start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.ask_as, APP)
            await settle()
            assert served.statuses == {403: 1}
            sts.may_respond.set()
        assert served.statuses == {403: 1, 200: 1}
        assert [line["uid"] for line in served.logged("credentials_served")] == [APP]


@needs_root
async def test_new_allow_uids_apply_at_once(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        assert status_of(await served.ask_as(OTHER)) == 200
        role = served.daemon.role.refresher.role
        served.daemon.roles.replace([role._replace(allow_uids=FOR_APP)])
        assert [status_of(await served.ask_as(uid)) for uid in (OTHER, APP)] == [403, 200]


async def test_allow_uids_without_lookup_denies_all_with_a_warning(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_finds_ourselves", lambda _find: False)
    own = frozenset({os.geteuid()})
    async with serving(autojump_clock, wall, volume, allow_uids=own) as served:
        (warning,) = served.logged("uid_lookup_unavailable")
        assert (warning["level"], warning["role_name"]) == ("warning", "default")
        denied = await served.send(GET)
        assert status_of(denied) == 403
        assert "allow_uids" in body_of(denied)["message"]
        (line,) = served.logged("request_denied")
        assert line["reason"] == "unknown user"
        assert not {"uid", "pid"} & line.keys()
        role = served.daemon.role.refresher.role
        served.daemon.roles.replace([role._replace(allow_uids=None)])
        assert status_of(await served.send(GET)) == 200, "only allow_uids needs the lookup"


async def test_role_with_allow_uids_is_not_in_the_credentials_file(
    autojump_clock: MockClock, wall: FakeWall, tmp_path: Path
) -> None:
    events: list[Any] = []
    config = make_config(str(tmp_path / "token"))._replace(credentials_file=str(tmp_path / "credentials"))
    config = config._replace(roles=(config.role, config.role._replace(name="reporting", allow_uids=FOR_APP)))
    with make_daemon(config, FakeExchange(wall.time), sources=Sources(wall.clock), log=make_log(events)).peers:
        assert [(entry["event"], entry["role_name"]) for entry in events] == [("role_excluded", "reporting")]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[Peer]:
    """Return a list that records the clients that the audit log looks up."""
    found: list[Peer] = []
    find_peer = Peers.peer

    def note(self: Peers, sock: socket.socket, monotonic: float, *, is_denial: bool) -> Peer:
        found.append(find_peer(self, sock, monotonic, is_denial=is_denial))
        return found[-1]

    monkeypatch.setattr(Peers, "peer", note)
    return found


async def test_audit_log_looks_up_only_the_clients_that_it_logs(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, looked_up: list[Peer]
) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        for request in (GET, WITHOUT_SECRET):
            for _ in range(3 * LINES_A_SECOND):
                await served.send(request)
    lines = [*served.logged("credentials_served"), *served.logged("request_denied")]
    assert 0 < len(looked_up) == len([line for line in lines if "count" not in line])
    assert sum(line.get("count", 1) for line in lines) == 6 * LINES_A_SECOND


CLIENT = """
import os, socket
socket.socket().close()
{become}
with socket.socket() as client:
    client.connect({address})
    client.sendall({request})
    print(os.getpid(), client.makefile("rb").readline().split()[1].decode())
"""


async def send_from_a_process(uid: int, address: tuple[str, int]) -> tuple[int, int]:
    """Send a request from a process of this user. Return the process's id and the status of the response."""
    program = CLIENT.format(become=BECOME.format(uid=uid), address=address, request=WITHOUT_SECRET)
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    pid, status = done.stdout.split()
    return int(pid), int(status)


@needs_root
async def test_running_daemon_distinguishes_users_and_processes(tmp_path: Path) -> None:
    file = tmp_path / "roles.yaml"
    file.write_text(f"roles:\n- name: default\n  role_arn: {ROLE_ARN}\n  allow_uids: [{APP}]\n")
    environment = {"IRSA_SIDECAR_CONFIG": str(file)}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url, **environment)) as running,
    ):
        await running.logged("credentials_refreshed")
        for uid, expected, event in ((APP, 200, "credentials_served"), (OTHER, 403, "request_denied")):
            pid, status = await send_from_a_process(uid, running.address)
            assert status == expected
            await running.logged(event, uid=uid, pid=pid)
