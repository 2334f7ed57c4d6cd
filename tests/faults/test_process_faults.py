"""
Test faults of the process and its Pod, one test for each fault.

The tests run `irsa-sidecar run` as a process if the fault concerns processes.
"""

import os
import signal
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from benchmarks.subjects import free_port
from sidecar.background import RESTART_SECONDS
from tests.support.fakes.scripted_sts import Reply
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import (
    GUARD_SECONDS,
    ROLE_ARN,
    full_pipe,
    get,
    hour_long_reply,
    our_program,
    pod_environment,
    run_daemon,
    run_to_its_end,
    scripted_sts,
    until_served,
)
from tests.support.served import GET, Served, status_of
from tests.support.users import needs_linux

NOWHERE = "http://127.0.0.1:1/"


async def test_sigterm_completes_the_response_and_exits_with_zero(tmp_path: Path) -> None:
    """
    SIGTERM arrives during a refresh and a response.

    The daemon completes the response, cancels the refresh, and exits with status 0.
    """
    never = Reply(200, hour_long_reply().body, delay_seconds=3600)
    async with scripted_sts(never) as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await sts.called.wait()
        client = await trio.open_tcp_stream(*running.address)
        async with client:
            await client.send_all(GET)
            assert await running.stop(signal.SIGTERM) == 0
            assert status_of(b"".join([piece async for piece in client])) == 503
        assert len(sts.requests) == 1


async def test_stopping_pod_still_gets_credentials(tmp_path: Path) -> None:
    """
    The application needs credentials while its Pod stops.

    A plain sidecar serves for its drain time after SIGTERM. A native sidecar stops last and needs no drain time.
    """
    environment = {"IRSA_SIDECAR_DRAIN_SECONDS": "600"}
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url, **environment)) as running,
    ):
        await running.logged("credentials_refreshed")
        running.process.send_signal(signal.SIGTERM)
        await running.logged("stopping")
        assert (await get(running.url))[0] == 200
        assert await running.stop(signal.SIGTERM) == 0


async def test_restart_after_sigkill_needs_one_call_to_sts(tmp_path: Path) -> None:
    """
    The process gets SIGKILL and restarts.

    The next process is ready after one STS call, and no temporary file is left behind.
    """
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url)
        for calls in (1, 2):
            async with run_daemon(environment) as running:
                await running.logged("credentials_refreshed")
                assert (await get(running.url))[0] == 200
                assert (await get(running.ready_url))[0] == 200
                assert len(sts.requests) == calls
                assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert [path.name for path in tmp_path.iterdir()] == ["token"]


@needs_linux
async def test_saved_credentials_are_served_after_sigkill(tmp_path: Path) -> None:
    """
    The process gets SIGKILL during an STS outage.

    With a state directory, the next process serves the same credentials at once and keeps the schedule.
    """
    async with scripted_sts() as sts:
        environment = pod_environment(
            tmp_path / "token",
            sts.url,
            IRSA_SIDECAR_STATE_DIR=str(tmp_path / "state"),
            IRSA_SIDECAR_STATE_ALLOW_DISK="true",
        )
        async with run_daemon(environment) as running:
            await running.logged("credentials_saved")
            _, before = await get(running.url)
            assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        sts.replies = [Reply(raw=b"", reset=True)]
        for _ in range(3):
            async with run_daemon(environment) as running:
                status, after = await get(running.url)
                assert (status, after) == (200, before)
                assert (await get(running.ready_url))[0] == 200
                assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert len(sts.requests) == 1
    (kept,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_damaged_saved_credentials_are_ignored(tmp_path: Path) -> None:
    """
    Saved credentials are damaged.

    The daemon ignores the saved credentials, logs the reason, and calls STS at once.
    """
    state = tmp_path / "state"
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_STATE_DIR=str(state))
        environment["IRSA_SIDECAR_STATE_ALLOW_DISK"] = "true"
        async with run_daemon(environment) as running:
            await running.logged("credentials_saved")
        (kept,) = state.iterdir()
        kept.write_bytes(kept.read_bytes()[:-9])
        async with run_daemon(environment) as running:
            assert "damaged" in (await running.logged("saved_credentials_ignored"))["reason"]
            await running.logged("credentials_saved")
            assert (await get(running.url))[0] == 200
        assert len(sts.requests) == 2


def test_port_in_use_is_reported_with_exit_status_two(tmp_path: Path) -> None:
    """
    Another process uses the port.

    The daemon exits with status 2. Its message shows the port, and how to find the process that uses the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        environment = pod_environment(tmp_path / "token", NOWHERE, IRSA_SIDECAR_LISTEN=f"127.0.0.1:{port}")
        status, message = run_to_its_end(environment)
    assert status == 2
    assert f"127.0.0.1:{port}" in message
    assert f"ss -ltnp 'sport = :{port}'" in message


WITHOUT_FAMILY = """
import errno, socket
from sidecar.serving import listen
def without_family(kind):
    class Socket(kind):
        def __init__(self, family=socket.AF_INET, *args, **kwargs):
            if family == socket.{family}:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)
    return Socket
socket.socket, listen.Listener = without_family(socket.socket), without_family(listen.Listener)
"""
"""A prelude that simulates a kernel without one address family."""


async def test_one_address_family_of_loopback_is_enough(tmp_path: Path) -> None:
    """
    Loopback has only IPv4 or only IPv6.

    The daemon serves on the available family. It fails to start only if both families are missing.
    """
    token = tmp_path / "token"
    without_ipv4, without_ipv6 = (WITHOUT_FAMILY.replace("{family}", name) for name in ("AF_INET", "AF_INET6"))
    async with scripted_sts() as sts, run_daemon(pod_environment(token, sts.url), prelude=without_ipv6) as running:
        assert running.url.startswith("http://127.0.0.1:")
        await running.logged("credentials_refreshed")
        assert (await get(running.url))[0] == 200
    if _has_ipv6():
        async with run_daemon(pod_environment(token, NOWHERE), prelude=without_ipv4) as running:
            assert running.url.startswith("http://[::1]:")
            assert (await get(running.url))[0] == 503
    status, message = run_to_its_end(pod_environment(token, NOWHERE), prelude=without_ipv4 + without_ipv6)
    assert status == 2
    assert "IRSA_SIDECAR_LISTEN" in message


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


WITHOUT_NETLINK = f"""
{WITHOUT_FAMILY.replace("{family}", "AF_NETLINK")}
from sidecar.serving import peer; from sidecar.serving import proc_net
proc_net.MAX_TABLE_BYTES *= 100
"""
"""
A prelude that disables netlink, as in gVisor or with a strict seccomp profile.

The prelude also raises the size limit of the tables in /proc/net, because this machine may have many open sockets.
"""

WITHOUT_PROC_NET = "proc_net.find_in_proc = peer.lookup_unavailable"


@needs_linux
async def test_unknown_user_is_denied_by_allow_uids(tmp_path: Path) -> None:
    """
    A sandbox hides the user of the client.

    Without netlink, the daemon reads /proc/net/tcp. If both fail, `allow_uids` denies and logs every client.
    """
    roles = tmp_path / "roles.yaml"
    roles.write_text(f"roles:\n- name: default\n  role_arn: {ROLE_ARN}\n  allow_uids: [{os.geteuid()}]\n")
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_CONFIG=str(roles))
        async with run_daemon(environment, prelude=WITHOUT_NETLINK) as running:
            await running.logged("credentials_refreshed")
            assert (await get(running.url))[0] == 200
            await running.logged("credentials_served", uid=os.geteuid())
        async with run_daemon(environment, prelude=WITHOUT_NETLINK + WITHOUT_PROC_NET) as running:
            assert "denied" in (await running.logged("uid_lookup_unavailable", role_name="default"))["reason"]
            await running.logged("credentials_refreshed")
            status, body = await get(running.url)
            assert (status, "allow_uids" in body["message"]) == (403, True)


NOTHING_CAN_BE_WRITTEN = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
"""A prelude that simulates a full disk: every write to a file fails."""


async def test_read_only_root_or_full_disk_leaves_no_partial_file(tmp_path: Path) -> None:
    """
    The root file system is read-only, or a disk is full.

    The daemon can serve without writing a file. If it cannot write a secret, it leaves no partial file and exits with
    status 2.
    """
    volume = tmp_path / "authorization"
    volume.mkdir()
    async with scripted_sts() as sts:
        environment = _unmeasured(pod_environment(tmp_path / "token", sts.url))
        async with run_daemon(environment, prelude=NOTHING_CAN_BE_WRITTEN) as running:
            await running.logged("credentials_refreshed")
            assert (await get(running.url))[0] == 200
            assert await running.stop(signal.SIGTERM) == 0
    path = str(volume / "secret")
    flag = f"--authorization-token-file={path}"
    status, message = run_to_its_end(environment, flag, prelude=NOTHING_CAN_BE_WRITTEN)
    assert status == 2
    assert f"IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE is {path}" in message
    assert list(volume.iterdir()) == []


async def test_unwritable_credentials_file_does_not_stop_service(tmp_path: Path) -> None:
    """
    The credentials file cannot be written.

    The daemon logs and counts the error, retries, leaves no partial file, and serves every request.
    """
    volume = tmp_path / "shared"
    volume.mkdir()
    path = str(volume / "credentials")
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_CREDENTIALS_FILE=path)
        async with run_daemon(_unmeasured(environment), prelude=NOTHING_CAN_BE_WRITTEN) as running:
            failed = await running.logged("credentials_file_write_failed")
            assert (failed["path"], failed["reason"]) == (path, "File too large")
            assert (await get(running.url))[0] == 200
            _, metrics = await get(running.ready_url.replace("readyz", "metrics"))
            count = metrics["text"].partition('irsa_sidecar_credentials_file_writes_total{outcome="failure"} ')[2]
            assert int(count.split()[0]) in {1, 2}  # a failed write before the first credentials may also count
            assert await running.stop(signal.SIGTERM) == 0
    assert list(volume.iterdir()) == []


def test_file_with_a_users_own_keys_is_not_changed(tmp_path: Path) -> None:
    """
    The credentials file contains a user's own keys.

    The daemon exits with status 2 and does not change the file.
    """
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = AKIAOWN\n")
    environment = pod_environment(tmp_path / "token", NOWHERE, IRSA_SIDECAR_CREDENTIALS_FILE=str(path))
    status, message = run_to_its_end(environment)
    assert status == 2
    assert f"IRSA_SIDECAR_CREDENTIALS_FILE is {path}" in message
    assert path.read_text() == "[default]\naws_access_key_id = AKIAOWN\n"


def _unmeasured(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment without coverage, because coverage would write another file."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


async def test_closed_or_unread_output_does_not_stop_service(tmp_path: Path) -> None:
    """
    Stdout or stderr is closed, or nobody reads the pipe.

    The daemon drops and counts log lines, serves every request, and stops normally.
    """
    admin, served = (f"127.0.0.1:{free_port()}" for _ in range(2))
    urls = [f"http://{served}/v1/credentials", f"http://{admin}/metrics"]
    async with scripted_sts() as sts:
        environment = pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_LOG_FORMAT="json")
        environment |= {"IRSA_SIDECAR_LISTEN": served, "IRSA_SIDECAR_ADMIN_LISTEN": admin}
        for closes in (False, True):
            with full_pipe() as (_, full):
                command = [*our_program("import os; os.close(1); os.close(2)" * closes), "run"]
                process = await trio.lowlevel.open_process(command, env=environment, stdout=full, stderr=full)
                assert (await until_served(urls[0]))["AccessKeyId"]
                dropped = (await until_served(urls[1]))["text"].partition("\nirsa_sidecar_log_lines_dropped_total ")[2]
                assert int(dropped.split()[0]) > 0
                process.terminate()
                with trio.fail_after(GUARD_SECONDS):
                    assert await process.wait() == 0


async def test_bug_in_one_task_does_not_end_the_others(
    autojump_clock: MockClock, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A bug raises an exception in one task.

    If the bug is in a connection, the client gets a 500. If the bug is in a refresher, the daemon logs and counts the
    error, restarts the refresher, and serves credentials.
    """
    with monkeypatch.context() as patch:
        patch.setattr(served.daemon.role.store, "_snapshot", "a bug")
        assert status_of(await served.send(GET)) == 500
    assert len(served.logged("request_failed")) == 1
    served.sts.error = ZeroDivisionError("a bug")
    autojump_clock.autojump_threshold = 0.0
    await trio.sleep(1800 + 2 * RESTART_SECONDS)
    autojump_clock.autojump_threshold = 0.02
    assert len(served.logged("refresher_failed")) > 1
    assert "ZeroDivisionError" in str(served.daemon.role.last_error)
    assert served.daemon.metrics.refreshes["default", "unexpected_error"] > 1
    assert status_of(await served.send(GET)) == 200
    served.sts.error = None
    await trio.sleep(2 * RESTART_SECONDS)
    assert b"ASIAFAKE0001" not in await served.send(GET)


@needs_linux
async def test_many_roles_share_one_inotify_instance(tmp_path: Path) -> None:
    """
    Many roles share a low limit of inotify instances.

    One inotify instance serves all roles, because a user may have only 128 instances on a node.
    """
    roles = tmp_path / "roles.yaml"
    for number in range(50):
        (tmp_path / f"volume-{number}").mkdir()
        (tmp_path / f"volume-{number}" / "token").write_text(service_account_token(time.time()))
    entries = [
        f"- {{name: role-{number}, role_arn: '{ROLE_ARN}', token_file: '{tmp_path}/volume-{number}/token',"
        f" authorization_token_file: '{tmp_path}/secret-{number}'}}\n"
        for number in range(50)
    ]
    roles.write_text("roles:\n" + "".join(entries))
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url, IRSA_SIDECAR_CONFIG=str(roles))) as running,
    ):
        await running.logged("credentials_refreshed", times=50)
        descriptors = Path(f"/proc/{running.process.pid}/fd")
        with trio.fail_after(GUARD_SECONDS):
            while len(watches := _watches(descriptors)) != 1 or watches[0] < 51:
                await trio.lowlevel.checkpoint()
        assert watches == [51]  # 50 token directories, and one directory with roles and secrets


def _watches(descriptors: Path) -> list[int]:
    """Return the number of watches per inotify instance (proc(5), fdinfo). Descriptors may close during the call."""
    texts = []
    for entry in descriptors.iterdir():
        with suppress(FileNotFoundError):
            if "inotify" in str(entry.readlink()):
                texts.append((descriptors.parent / "fdinfo" / entry.name).read_text())
    return [text.count("inotify wd:") for text in texts]
