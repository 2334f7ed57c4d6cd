"""Test the secrets in use: the detection of changes, wrong secrets from clients, and hung volumes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sidecar.daemon import authorization_files
from sidecar.daemon.authorization_files import MAX_WAITING, RECHECK_SECONDS, AuthorizationFiles
from sidecar.directory_watch import SETTLE_SECONDS
from sidecar.errors import ConfigurationError, FileTimeoutError
from sidecar.file_thread import DEADLINE_SECONDS
from sidecar.files import FileVersion, file_version
from sidecar.refresh.schedule import CHECK_SECONDS
from sidecar.serving.authorization import MAX_SECRET_BYTES, is_created_by_us, start_secrets, write_secret
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.support.fakes.kubelet import FakeVolume
from tests.support.served import GET, SECRET, Served, serving, status_of
from tests.unit.daemon.test_daemon import make_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the-first-one")
    return path


@asynccontextmanager
async def following(*paths: Path) -> AsyncIterator[AuthorizationFiles]:
    files = AuthorizationFiles(start_secrets([str(path) for path in paths]), make_log([]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.run)
        await wait_all_tasks_blocked()
        yield files
        nursery.cancel_scope.cancel()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that records the paths of all later checks."""
    checks: list[str] = []

    def count(path: str) -> FileVersion | None:
        checks.append(path)
        return file_version(path)

    monkeypatch.setattr(authorization_files, "file_version", count)
    return checks


def without_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")


# Changes


@pytest.mark.parametrize("way", ["renamed in", "rewritten"])
@pytest.mark.parametrize("has_inotify", [True, False])
async def test_changed_secret_is_used(
    autojump_clock: MockClock, path: Path, monkeypatch: pytest.MonkeyPatch, way: str, *, has_inotify: bool
) -> None:
    if not has_inotify:
        without_inotify(monkeypatch)
    async with following(path) as files:
        if way == "rewritten":
            path.write_text("the-next-one")
        else:
            write_secret(str(path), "the-next-one")
        await trio.sleep(SETTLE_SECONDS * 2 if has_inotify else CHECK_SECONDS + 0.1)
        assert files[str(path)].secret == b"the-next-one"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * (MAX_SECRET_BYTES + 1)])
async def test_unusable_content_does_not_replace_the_secret(
    autojump_clock: MockClock, path: Path, content: bytes
) -> None:
    async with following(path) as files:
        path.write_bytes(content)
        await trio.sleep(CHECK_SECONDS)
        assert files[str(path)].secret == b"the-first-one"
        path.write_text("whole-again")
        await trio.sleep(CHECK_SECONDS)
        assert files[str(path)].secret == b"whole-again"


@pytest.mark.parametrize("replacement", [None, "fifo", "directory"])
async def test_missing_or_special_file_does_not_replace_the_secret(
    autojump_clock: MockClock, path: Path, replacement: str | None
) -> None:
    async with following(path) as files:
        path.unlink()
        if replacement == "fifo":
            os.mkfifo(path)
        elif replacement == "directory":
            path.mkdir()
        await trio.sleep(CHECK_SECONDS)
        await files[str(path)].check_after_mismatch()
        assert files[str(path)].secret == b"the-first-one"


async def test_files_of_one_directory_are_checked_by_one_thread(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"secret-{number}" for number in range(50)]
    async with following(*paths) as files:
        looks: list[list[str]] = []
        versions = authorization_files._versions

        def count(paths: list[str]) -> list[FileVersion | None]:
            looks.append(paths)
            return versions(paths)

        monkeypatch.setattr(authorization_files, "_versions", count)
        await trio.sleep(10 * CHECK_SECONDS + 0.1)
        assert len(looks) == 10
        paths[49].write_text("the-next-one")
        await trio.sleep(CHECK_SECONDS)
        assert files[str(paths[49])].secret == b"the-next-one"


# Roles that are added and removed


async def test_secret_of_a_new_role_is_created_and_watched(autojump_clock: MockClock, path: Path) -> None:
    other = path.parent / "new" / "secret"
    other.parent.mkdir()
    async with following(path) as files:
        await files.add([str(path), str(other)])
        assert is_created_by_us(files[str(other)].secret)
        assert files[str(path)].secret == b"the-first-one"
        other.write_text("the-next-one")
        await trio.sleep(CHECK_SECONDS)
        assert files[str(other)].secret == b"the-next-one"


async def test_secret_in_use_is_kept_when_roles_change(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "created"
    async with following(path) as files:
        before = files[str(path)].secret
        await files.add([str(path), str(tmp_path / "." / "created"), f"{tmp_path}/../{tmp_path.name}/created"])
        files.keep_only([str(path)])
        assert files[str(path)].secret == before == path.read_bytes()


async def test_secret_of_a_removed_role_is_not_used_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "created"
    async with following(path) as files:
        before = files[str(path)].secret
        files.keep_only([])
        with pytest.raises(KeyError):
            files[str(path)]
        await files.add([str(path)])
        assert files[str(path)].secret == path.read_bytes() != before


async def test_new_role_with_an_unusable_secret_is_rejected(autojump_clock: MockClock, path: Path) -> None:
    async with following(path) as files:
        with pytest.raises(ConfigurationError, match="nowhere"):
            await files.add([str(path.parent / "nowhere" / "secret")])


async def test_new_role_with_a_secret_on_a_hung_volume_is_rejected(
    autojump_clock: MockClock, path: Path, volumes: HangingDirectories
) -> None:
    other = path.parent / "hung" / "secret"
    async with following(path) as files:
        with volumes.hang(str(other)), pytest.raises(FileTimeoutError, match="hung/secret"):
            await files.add([str(other)])


# Wrong secrets


def sent(secret: str) -> bytes:
    return GET.replace(SECRET.encode(), secret.encode())


async def test_client_with_a_new_secret_is_served_at_once(
    autojump_clock: MockClock, served: Served, volume: FakeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client calls before the next regular check, and within RECHECK_SECONDS of the last new secret."""
    for number in range(20):
        secret = f"secret-{number}"
        (volume.directory / "authorization").write_text(secret)
        assert status_of(await served.send(sent(secret))) == 200
        assert status_of(await served.send(GET)) == 403


async def test_client_with_a_wrong_secret_waits_for_one_check(
    autojump_clock: MockClock, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks, before = counted(monkeypatch), trio.current_time()
    assert status_of(await served.send(sent("wrong"))) == 403
    assert len(checks) == 1
    assert trio.current_time() - before <= 1.0
    assert len(served.logged("request_denied")) == 1


async def test_correct_secret_needs_no_check_of_its_file(
    autojump_clock: MockClock, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = counted(monkeypatch)
    for _ in range(50):
        assert status_of(await served.send(GET)) == 200
    assert checks == []


async def test_flood_of_wrong_secrets_causes_ten_checks_a_second(
    autojump_clock: MockClock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(path) as files:
        checks, authorization = counted(monkeypatch), files[str(path)]
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:
                while True:
                    if authorization.waiting < MAX_WAITING:
                        nursery.start_soon(authorization.check_after_mismatch)
                    await trio.sleep(0.001)
        assert len(checks) <= 10 / RECHECK_SECONDS + 3  # plus 3 for the first check and the regular checks
        assert authorization.waiting == 0


async def test_wrong_secrets_over_the_limit_are_rejected_at_once(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, volumes: HangingDirectories
) -> None:
    async with serving(autojump_clock, wall, volume) as served:
        role = served.daemon.role
        with volumes.hang(str(volume.directory / "authorization")):
            async with trio.open_nursery() as nursery:
                for _ in range(MAX_WAITING):
                    nursery.start_soon(role.check_secret)
                await wait_all_tasks_blocked()
                assert not role.can_check_secret
                before = trio.current_time()
                assert status_of(await served.send(sent("wrong"))) == 403
                assert trio.current_time() - before < RECHECK_SECONDS
                nursery.cancel_scope.cancel()
            assert role.can_check_secret


# A volume that hangs


async def test_hung_volume_of_the_secret_delays_no_client(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, volumes: HangingDirectories
) -> None:
    """Clients with the secret in use are served. A wrong secret is rejected within the deadline of a held request."""
    async with serving(autojump_clock, wall, volume) as served:
        with volumes.hang(str(volume.directory / "authorization")):
            for _ in range(10):
                before = trio.current_time()
                assert status_of(await served.send(GET)) == 200
                assert trio.current_time() - before < 0.1
                assert status_of(await served.send(sent("wrong"))) == 403
                assert trio.current_time() - before < 1.0
            await trio.sleep(DEADLINE_SECONDS)
            before = trio.current_time()
            assert status_of(await served.send(sent("wrong"))) == 403
            assert trio.current_time() - before < 0.3
            assert volumes.blocked == 1
            await trio.sleep(CHECK_SECONDS * 3)
            assert len(served.logged("authorization_check_failed")) == 1
        (volume.directory / "authorization").write_text("the-next-one")
        assert status_of(await served.send(sent("the-next-one"))) == 200
