"""The file that holds the clients' secret: made, kept, changed, spoilt, and what is left behind when it cannot be."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.authorization import (
    LOOK_SECONDS,
    MAX_SECRET_BYTES,
    SECRET_BYTES,
    Authorization,
    new_secret,
    write_secret,
)
from sidecar.errors import ConfigurationError
from sidecar.regular_file import file_identity

SETTING = "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authorization-token"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Authorization(str(path))
    message = str(caught.value)
    assert SETTING in message
    assert str(path) in message
    return message


# Making it


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_missing_file_is_made_for_owner_and_group_without_a_line_ending(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        secret = Authorization(str(path)).secret(0.0)
    finally:
        os.umask(before)
    assert path.read_bytes() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_who_may_read_a_file_that_is_made_can_be_said(path: Path) -> None:
    Authorization(str(path), 0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_made_secrets_differ_and_fit_into_a_header() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(secret) >= SECRET_BYTES
        assert secret.isascii()
        assert secret.isprintable()
        assert " " not in secret


def test_a_file_that_is_there_is_kept_as_it_is(path: Path) -> None:
    path.write_text("chosen-by-hand")
    path.chmod(0o600)
    assert Authorization(str(path)).secret(0.0) == b"chosen-by-hand"
    assert path.read_text() == "chosen-by-hand"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_start_keeps_the_secret_of_the_first(path: Path) -> None:
    assert Authorization(str(path)).secret(0.0) == Authorization(str(path)).secret(0.0)


def test_a_line_ending_that_an_editor_added_is_no_part_of_the_secret(path: Path) -> None:
    path.write_text("chosen-by-hand\r\n")
    assert Authorization(str(path)).secret(0.0) == b"chosen-by-hand"


def test_a_link_that_leads_nowhere_is_replaced(path: Path) -> None:
    path.symlink_to("nowhere")
    secret = Authorization(str(path)).secret(0.0)
    assert path.read_bytes() == secret
    assert not path.is_symlink()


# Following it


def test_a_renamed_in_secret_is_taken_up(path: Path) -> None:
    kept = Authorization(str(path))
    kept.secret(0.0)
    write_secret(str(path), "the-next-one")
    assert kept.secret(LOOK_SECONDS) == b"the-next-one"


def test_a_secret_rewritten_in_place_is_taken_up(path: Path) -> None:
    kept = Authorization(str(path))
    kept.secret(0.0)
    path.write_text("short")
    assert kept.secret(LOOK_SECONDS) == b"short"


def test_the_file_is_looked_at_no_more_often_than_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    kept = Authorization(str(path))

    def counted(looked_at: str) -> tuple[int, int, int] | None:
        looks.append(looked_at)
        return file_identity(looked_at)

    monkeypatch.setattr("sidecar.authorization.file_identity", counted)
    for hundredth in range(100):
        kept.secret(7.0 + hundredth / 100)
    assert 9 <= len(looks) <= 10


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * (MAX_SECRET_BYTES + 1)])
def test_a_spoilt_file_changes_nothing_until_it_is_whole_again(path: Path, content: bytes) -> None:
    kept = Authorization(str(path))
    old = kept.secret(0.0)
    path.write_bytes(content)
    assert kept.secret(1.0) == old
    path.write_text("whole-again")
    assert kept.secret(2.0) == b"whole-again"


def test_a_removed_file_changes_nothing(path: Path) -> None:
    kept = Authorization(str(path))
    old = kept.secret(0.0)
    path.unlink()
    assert kept.secret(1.0) == old


def test_a_fifo_put_in_its_place_changes_nothing_and_holds_nobody_up(path: Path) -> None:
    kept = Authorization(str(path))
    old = kept.secret(0.0)
    path.unlink()
    os.mkfifo(path)
    assert kept.secret(1.0) == old


# Refusing it


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \r\n",
        b"two\nlines",
        b"tab\there",
        b"nul\0",
        b"delete\x7f",
        b"caf\xc3\xa9",
        b"x" * (MAX_SECRET_BYTES + 1),
        # The bounded read ends right behind the first line.
        b"x" * MAX_SECRET_BYTES + b"\nsecond line",
    ],
)
def test_what_is_no_header_value_is_refused_without_being_shown(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    message = refusal(path)
    assert "remove it" in message
    assert "lines" not in message
    assert "xxx" not in message


def test_the_longest_secret_is_taken(path: Path) -> None:
    path.write_bytes(b"x" * MAX_SECRET_BYTES)
    assert Authorization(str(path)).secret(0.0) == b"x" * MAX_SECRET_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=64))
def test_any_content_is_a_sendable_secret_or_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "authorization-token"
    path.write_bytes(content)
    try:
        secret = Authorization(str(path)).secret(0.0)
    except ConfigurationError:
        return
    assert secret == content.strip()
    assert secret.decode("ascii").isprintable()


def test_a_directory_or_a_fifo_is_refused(tmp_path: Path) -> None:
    assert "one line" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "one line" in refusal(tmp_path / "fifo")


def test_a_file_that_fails_to_be_read_is_named_with_the_reason() -> None:
    # The memory of a process opens like a file, and has nothing at its start.
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("this system has no /proc")
    assert "Input/output error" in refusal(Path("/proc/self/mem"))


def test_a_directory_that_is_not_there_is_named_with_what_to_mount(tmp_path: Path) -> None:
    message = refusal(tmp_path / "missing" / "token")
    assert "No such file or directory" in message
    assert "emptyDir" in message


def test_a_directory_that_may_not_be_written_is_named() -> None:
    # /proc takes no new files from anybody, root included.
    if not os.path.isdir("/proc/self"):
        pytest.skip("this system has no /proc")
    assert "cannot be made" in refusal(Path("/proc/self/authorization-token"))


@pytest.mark.parametrize("failing", ["fchmod", "rename"])
def test_nothing_is_left_behind_when_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    assert "No space left on device" in refusal(path)
    assert os.listdir(path.parent) == []


def test_a_full_disk_leaves_no_half_secret(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("making a small file system needs root and CAP_SYS_ADMIN")
    try:
        (tmp_path / "filler").write_bytes(b"x" * 4096)
        assert "No space left on device" in refusal(tmp_path / "authorization-token")
        assert os.listdir(tmp_path) == ["filler"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_a_killed_process_left_half_written_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    (tmp_path / "token.draft").write_text("half of a sec")
    write_secret(str(path), "secret")
    assert path.read_text() == "secret"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
