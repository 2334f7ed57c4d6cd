"""Test the credentials file: its content, the times of its writes, failed writes, and files of other programs."""

import configparser
import itertools
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import trio
import trio.testing
from botocore.credentials import SharedCredentialProvider
from trio.testing import MockClock

from sidecar.daemon.credentials_file import HEADER, CredentialsFile, is_ours, text_of
from sidecar.errors import ConfigurationError
from sidecar.files import replace_secret_file
from sidecar.refresh.refresher import REMINDER_SECONDS
from sidecar.refresh.schedule import CHECK_SECONDS
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.support.fakes.kubelet import FakeVolume
from tests.support.served import GET, Served, status_of
from tests.unit.daemon.several_roles import DENIED, Pod, arn, pod_with_two_roles
from tests.unit.serving.test_container_credentials import CREDENTIALS, SNAPSHOT

# Content


def test_each_role_with_valid_credentials_is_a_profile() -> None:
    assert text_of({"reporting": SNAPSHOT, "default": SNAPSHOT}).splitlines() == [
        "# irsa-sidecar replaces this file whenever credentials change.",
        *(
            line
            for name in ("default", "reporting")
            for line in [
                "",
                f"[{name}]",
                "# arn:aws:iam::111122223333:role/app",
                "aws_access_key_id = ASIAEXAMPLE",
                "aws_secret_access_key = wJalr/secret+key",
                "aws_session_token = IQoJb3JpZ2luX2Vj=",
                "x_security_token_expires = 2026-01-02T03:04:05Z",
            ]
        ),
    ]


def test_role_without_valid_credentials_has_no_profile() -> None:
    assert text_of({}) == HEADER


@pytest.mark.parametrize("name", ["default", "reporting", "_a.b-c", "9"])
def test_botocore_reads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(text_of({"other": SNAPSHOT, name: SNAPSHOT}))
    monkeypatch.setattr("os.environ", {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": name})
    found = botocore.session.Session().get_credentials()
    assert found is not None
    assert found.method == "shared-credentials-file"
    assert (found.access_key, found.secret_key, found.token) == (
        "ASIAEXAMPLE",
        "wJalr/secret+key",
        "IQoJb3JpZ2luX2Vj=",
    )


def read(path: Path) -> Any:
    """Read the file with the same provider as a botocore session."""
    return SharedCredentialProvider(creds_filename=str(path), profile_name="default").load()


# Times of the writes


class Kept:
    """The file of a Pod with two roles, written without a thread, because virtual time does not wait for threads."""

    def __init__(self, pod: Pod, path: Path) -> None:
        self.pod = pod
        self.path = path
        self.error: Exception | None = None

    async def call(self, _path: str, function: Callable[..., Any], *arguments: str) -> Any:
        if self.error is not None and function is replace_secret_file:
            raise self.error
        return function(*arguments)

    def make(self) -> CredentialsFile:
        daemon = self.pod.daemon
        return CredentialsFile(
            str(self.path), daemon.roles, clock=daemon.clock, log=daemon.log, metrics=daemon.metrics, call=self.call
        )

    @property
    def keys(self) -> dict[str, str]:
        parser = configparser.RawConfigParser()
        parser.read(self.path)
        return {name: parser[name]["aws_access_key_id"] for name in parser.sections()}

    @property
    def served(self) -> dict[str, str]:
        keys = {served.role_name: self.pod.key(served.role_name) for served in self.pod.daemon.roles}
        return {name: key for name, key in keys.items() if key is not None}


@pytest.fixture
async def kept(autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, tmp_path: Path) -> AsyncIterator[Kept]:
    async with pod_with_two_roles(wall, volume) as pod, trio.open_nursery() as nursery:
        kept = Kept(pod, tmp_path / "credentials")
        nursery.start_soon(kept.make().run)
        yield kept
        nursery.cancel_scope.cancel()


async def test_file_has_the_served_credentials_at_once(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(0.01)
    assert kept.keys == {"default": "ASIAFAKE0001", "reporting": "ASIAFAKE0001"}
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o640
    for _ in range(40):
        await trio.sleep(300)
        await trio.testing.wait_all_tasks_blocked()
        assert kept.keys == kept.served
    assert kept.keys["default"] > "ASIAFAKE0005"
    assert "failure" not in kept.pod.daemon.metrics.credentials_file_writes


async def test_expired_credentials_are_removed_and_others_stay(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    kept.pod.sts["reporting"].error = DENIED
    await trio.sleep(3590)
    assert set(kept.keys) == {"default", "reporting"}
    await trio.sleep(10)
    assert set(kept.keys) == {"default"}
    kept.pod.sts["default"].error = DENIED
    await trio.sleep(3600)
    assert kept.path.read_text() == HEADER
    kept.pod.sts["default"].error = None
    await trio.sleep(120)
    assert kept.keys == kept.served != {}


async def test_removed_role_is_removed_from_the_file(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    kept.pod.daemon.roles.replace([kept.pod.role("default"), kept.pod.role("archive")])
    await trio.sleep(2 * CHECK_SECONDS)
    assert set(kept.keys) == {"default", "archive"}


async def test_role_with_allow_uids_is_not_in_the_file(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    reporting = kept.pod.role("reporting", allow_uids=frozenset({1001}))
    kept.pod.daemon.roles.replace([kept.pod.role("default"), reporting])
    await trio.sleep(2 * CHECK_SECONDS)
    assert set(kept.served) == {"default", "reporting"}
    assert set(kept.keys) == {"default"}


async def test_removed_or_changed_file_is_written_again(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    kept.path.unlink()
    await trio.sleep(CHECK_SECONDS)
    assert kept.keys == kept.served
    kept.path.write_text("[default]\naws_access_key_id = another\n")
    await trio.sleep(CHECK_SECONDS)
    assert kept.keys == kept.served


async def test_earlier_file_stays_until_all_roles_tried_or_a_limit(
    autojump_clock: MockClock, kept: Kept, tmp_path: Path
) -> None:
    after = Kept(kept.pod, tmp_path / "left")
    left = text_of({"default": SNAPSHOT, "reporting": SNAPSHOT})
    after.path.write_text(left)
    await kept.pod.daemon.roles.first_credentials()
    kept.pod.sts["slow"].latency_seconds = 19
    kept.pod.daemon.roles.replace([kept.pod.role("default"), kept.pod.role("reporting", role_arn=arn("slow"))])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.make().run)
        await trio.sleep(14)
        assert after.path.read_text() == left
        assert set(kept.keys) == {"default"}, "a daemon that found no file does not wait"
        await trio.sleep(2)
        assert set(after.keys) == {"default"}, "the wait has a limit"
        await trio.sleep(4)
        assert set(after.keys) == {"default", "reporting"}
        nursery.cancel_scope.cancel()


# Failed writes


async def test_failed_write_is_logged_counted_and_retried(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    kept.error = OSError(28, "No space left on device")
    before = kept.keys
    await trio.sleep(5 * REMINDER_SECONDS)
    assert kept.keys == before != kept.served
    logged = kept.pod.logged("credentials_file_write_failed")
    assert {(entry["reason"], entry["path"]) for entry in logged} == {("No space left on device", str(kept.path))}
    assert 2 <= len(logged) <= 3
    assert kept.pod.daemon.metrics.credentials_file_writes["failure"] > 10
    kept.error = None
    await trio.sleep(CHECK_SECONDS)
    assert kept.keys == kept.served


async def test_unexpected_exception_is_logged_by_name(autojump_clock: MockClock, kept: Kept) -> None:
    await trio.sleep(1)
    kept.error = ZeroDivisionError("a secret")
    kept.path.unlink()
    await trio.sleep(CHECK_SECONDS)
    assert [entry["reason"] for entry in kept.pod.logged("credentials_file_write_failed")] == ["ZeroDivisionError"]
    assert kept.served


async def test_hung_volume_of_the_credentials_file_is_reported(
    autojump_clock: MockClock, served: Served, tmp_path: Path, volumes: HangingDirectories
) -> None:
    """Check that one thread is abandoned, no client waits, and the file is written when the volume responds again."""
    daemon, path = served.daemon, tmp_path / "volume" / "credentials"
    path.parent.mkdir()
    file = CredentialsFile(str(path), daemon.roles, clock=daemon.clock, log=daemon.log, metrics=daemon.metrics)
    async with trio.open_nursery() as nursery:
        with volumes.hang(str(path)):
            nursery.start_soon(file.run)
            assert status_of(await served.send(GET)) == 200
            await trio.sleep(REMINDER_SECONDS / 2)
            (line,) = served.logged("credentials_file_write_failed")
            assert "its volume hangs" in line["reason"]
            assert volumes.blocked == 1
        await trio.sleep(CHECK_SECONDS)
        assert read(path).access_key == "ASIAFAKE0001"
        nursery.cancel_scope.cancel()


async def test_volume_that_hangs_after_the_first_write_is_reported(
    autojump_clock: MockClock, served: Served, tmp_path: Path, volumes: HangingDirectories
) -> None:
    daemon, path = served.daemon, tmp_path / "volume" / "credentials"
    path.parent.mkdir()
    file = CredentialsFile(str(path), daemon.roles, clock=daemon.clock, log=daemon.log, metrics=daemon.metrics)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.run)
        await trio.sleep(1)
        with volumes.hang(str(path)):
            await trio.sleep(CHECK_SECONDS * 3)
            assert len(served.logged("credentials_file_write_failed")) == 1
        path.unlink()
        await trio.sleep(CHECK_SECONDS)
        assert read(path).access_key == "ASIAFAKE0001"
        nursery.cancel_scope.cancel()


# Files of other programs


def test_missing_empty_or_own_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    assert not is_ours(str(path))
    path.touch()
    assert not is_ours(str(path))
    path.write_text(text_of({"default": SNAPSHOT}))
    assert is_ours(str(path))


@pytest.mark.parametrize("content", ["[default]\naws_access_key_id = AKIA\n", "#", HEADER[:-1], "a-secret"])
def test_file_of_another_program_is_rejected_and_not_changed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(content)
    assert_rejected(path)
    assert path.read_text() == content


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_special_file_is_rejected(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "credentials")
    assert_rejected(tmp_path / "credentials")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="this system has no /proc")
def test_unreadable_file_is_rejected() -> None:
    # The memory of a process opens like a file, but its first bytes cannot be read.
    assert_rejected(Path("/proc/self/mem"))


def assert_rejected(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"IRSA_SIDECAR_CREDENTIALS_FILE is {path}, .*. Use a path"):
        is_ours(str(path))


# Readers


READS = 300


def test_botocore_never_reads_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    texts = [text_of({"default": SNAPSHOT._replace(credentials=_numbered(number))}) for number in range(2)]
    replace_secret_file(str(path), texts[0])
    done = threading.Event()

    def keep_replacing() -> None:
        for text in itertools.cycle(texts):
            if done.is_set():
                return
            replace_secret_file(str(path), text)

    writer = threading.Thread(target=keep_replacing)
    writer.start()
    whole = {(f"ASIA{number}", 500 + 5000 * number, f"end{number}") for number in range(2)}
    seen, reads = set[tuple[str, int, str]](), 0
    try:
        while reads < READS or (seen < whole and writer.is_alive()):  # the writer may get no CPU time for a while
            entry = read(path)
            seen.add((entry.access_key, len(entry.secret_key), entry.token[-4:]))
            reads += 1
    finally:
        done.set()
        writer.join()
    assert seen == whole


def _numbered(number: int) -> Any:
    """Return credentials with lengths that differ much between numbers, so a mixture of two files cannot look valid."""
    return CREDENTIALS._replace(
        access_key_id=f"ASIA{number}",
        secret_access_key="x" * (500 + 5000 * number),
        session_token=f"{'y' * 1000}end{number}",
    )
