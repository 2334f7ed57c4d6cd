"""Test that a failing background task never stops the daemon.

The daemon logs and counts the exception, then restarts the task.
"""

import ast
import signal
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from sidecar.background import RESTART_SECONDS, keep_running
from sidecar.daemon import daemon as daemon_module
from sidecar.daemon import run as run_module
from sidecar.daemon.credentials_file import CredentialsFile
from sidecar.daemon.daemon import CredentialsHandler, Daemon, Form, make_daemon
from sidecar.daemon.roles_reload import Reload
from sidecar.daemon.served_roles import ServedRoles
from sidecar.files import file_version
from sidecar.local import services
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Sources
from sidecar.serving import http
from sidecar.serving.audit import Audit
from sidecar.serving.container_credentials import Response
from sidecar.webhook import service
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import get, pod_environment, run_daemon, run_to_its_end, scripted_sts
from tests.unit.config.test_roles_file import RAISING, one
from tests.unit.daemon.test_daemon import make_config, make_log, serve


@dataclass
class Pod:
    """The environment of a daemon, and the events that it logged."""

    wall: FakeWall
    token_file: str
    events: list[Any] = field(default_factory=list)

    def daemon(self, **settings: Any) -> Daemon:
        config = make_config(self.token_file)._replace(**settings)
        return make_daemon(
            config, FakeExchange(self.wall.time), sources=Sources(self.wall.clock), log=make_log(self.events)
        )


@pytest.fixture
def pod(wall: FakeWall, volume: FakeVolume) -> Pod:
    volume.write(service_account_token(wall.time()))
    return Pod(wall, volume.path)


BUGS = [
    ZeroDivisionError(),
    OverflowError(),
    RecursionError(),
    UnicodeError(),
    KeyError(),
    AssertionError(),
    MemoryError(),
    StopAsyncIteration(),
    trio.ClosedResourceError(),
    ExceptionGroup("outer", [ValueError(), ExceptionGroup("inner", [OSError()])]),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: type(bug).__name__)
async def test_task_that_raises_starts_again(autojump_clock: MockClock, bug: Exception) -> None:
    failures: list[Exception] = []
    started_at: list[float] = []

    async def task() -> None:
        started_at.append(trio.current_time())
        await trio.sleep(1)
        if len(started_at) < 3:
            raise bug

    await keep_running(task, failures.append)
    assert started_at == [0, 1 + RESTART_SECONDS, 2 + 2 * RESTART_SECONDS]
    assert failures == [bug, bug]


async def test_task_that_returns_is_not_started_again(autojump_clock: MockClock) -> None:
    await keep_running(trio.lowlevel.checkpoint, lambda _exc: None)
    assert trio.current_time() == 0


async def test_exception_during_cancellation_does_not_spread(autojump_clock: MockClock) -> None:
    """Let a child task raise in its cleanup. Trio then raises a group with the exception and Cancelled."""
    failures: list[Exception] = []

    async def cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    async def task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cleanup)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_running, task, failures.append)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 1
    assert len(failures) == 1


async def test_failing_report_does_not_end_the_task(autojump_clock: MockClock) -> None:
    runs = 0

    async def task() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError

    def report(_exc: Exception) -> None:
        raise BrokenPipeError

    await keep_running(task, report)
    assert runs == 3


@pytest.mark.parametrize("owner", [CredentialsFile, ServedRoles])
async def test_failing_task_does_not_end_the_daemon(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type[Any]
) -> None:
    run, starts = owner.run, 0

    async def fail_three_times(self: object) -> None:
        nonlocal starts
        starts += 1
        if starts <= 3:
            raise ZeroDivisionError
        await run(self)

    monkeypatch.setattr(owner, "run", fail_three_times)
    daemon = pod.daemon(credentials_file=str(tmp_path / "credentials"))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, daemon))
        await trio.sleep(5 * RESTART_SECONDS)
        assert daemon.role.valid_snapshot(pod.wall.clock.now()) is not None
        daemon.stop.set()
    failures = [entry["task"] for entry in pod.events if entry["event"] == "background_task_failed"]
    assert failures == [{CredentialsFile: "credentials_file", ServedRoles: "roles"}[owner]] * 3
    assert daemon.metrics.task_failures == {failures[0]: 3}
    assert starts == 4


async def test_failing_flush_of_the_audit_does_not_end_the_daemon(
    autojump_clock: MockClock, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = pod.daemon()

    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(Audit, "flush", fail)
    async with trio.open_nursery() as nursery:
        handler = CredentialsHandler(daemon, nursery, Form(http.parse, fail, {}, make_log([])))
        handler.observe(Response(403, b"", "default", denial="wrong user"), ("127.0.0.1", 40_000))
        await trio.sleep(2 * RESTART_SECONDS)
        nursery.cancel_scope.cancel()
    assert daemon.metrics.task_failures == {"audit": 2}


RAISES_AT_THE_END = """
from sidecar.serving import audit; from sidecar import log
def fail(self):
    raise ZeroDivisionError
audit.Audit.flush = fail
write = log.LineWriter.info
def out_of_memory(self, line):
    if '"stopping"' in line:
        raise MemoryError
    write(self, line)
log.LineWriter.info = out_of_memory
"""


async def test_daemon_stops_despite_a_failing_log_and_audit(tmp_path: Path) -> None:
    """Check that no signal is lost, and that the exit status is that of a normal stop."""
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url), prelude=RAISES_AT_THE_END) as running,
    ):
        await running.logged("credentials_refreshed")
        assert (await get(running.url))[0] == 200
        assert await running.stop(signal.SIGTERM) == 0
    assert "Traceback" not in running.errors


CONTAINED = {
    daemon_module: ("background", {"self.keep", "self._daemon.keep"}),
    run_module: ("background", {"daemon.keep"}),
    service: ("background", {"keep_running"}),
    services: ("nursery", {"keep_running"}),
}


@pytest.mark.parametrize("module", CONTAINED, ids=lambda module: module.__name__)
def test_every_background_task_runs_in_keep_running(module: ModuleType) -> None:
    """Check every task in the nursery of background tasks, because an exception there would end the process."""
    nursery, containing = CONTAINED[module]
    assert module.__file__ is not None
    calls = [
        node
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).removeprefix("self._") in {f"{nursery}.start_soon", f"{nursery}.start"}
    ]
    assert calls
    assert {ast.unparse(call.args[0]) for call in calls} <= containing


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: type(bug).__name__)
async def test_reload_that_fails_keeps_the_roles(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path, bug: Exception
) -> None:
    daemon, metrics = pod.daemon(), Metrics()
    before = dict(daemon.roles.routes)
    file = tmp_path / "roles.yaml"
    file.write_text("a")

    def read() -> Any:
        raise bug

    as_read = file_version(str(file))
    reload = Reload(str(file), read, daemon.roles, as_read=as_read, log=make_log(pod.events), metrics=metrics)
    await reload.now()
    assert metrics.reloads == {"failure": 1}
    assert not metrics.is_configuration_current
    assert dict(daemon.roles.routes) == before
    (entry,) = (entry for entry in pod.events if entry["event"] == "configuration_rejected")
    assert type(bug).__name__ in entry["reason"]
    assert entry["exc"] is bug


async def test_running_daemon_survives_any_roles_file(tmp_path: Path) -> None:
    volume = FakeVolume(tmp_path)
    volume.write(one())
    environment = {"IRSA_SIDECAR_CONFIG": volume.path}
    (tmp_path / "pod").mkdir()
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "pod" / "token", sts.url, **environment)) as running,
    ):
        await running.logged("credentials_refreshed")
        for count, text in enumerate(RAISING.values(), start=1):
            volume.write(text.encode("utf-8", "surrogatepass"))
            await running.logged("configuration_rejected", times=count)
            assert (await get(f"{running.url}/app"))[0] == 200
        assert await running.stop(signal.SIGTERM) == 0


START = {
    "nesting in a policy's text", "a character beyond Unicode", "a lone surrogate in a path", "NUL in a path",
    "an alias of itself in a policy", "aliases that nest deep",
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(START))
def test_invalid_roles_file_at_start_exits_with_status_2(tmp_path: Path, what: str) -> None:
    file = tmp_path / "roles.yaml"
    file.write_bytes(RAISING[what].encode("utf-8", "surrogatepass"))
    environment = pod_environment(tmp_path / "token", "http://127.0.0.1:1", IRSA_SIDECAR_CONFIG=str(file))
    status, stderr = run_to_its_end(environment)
    assert status == 2
    assert "Traceback" not in stderr
    assert str(file) in stderr
