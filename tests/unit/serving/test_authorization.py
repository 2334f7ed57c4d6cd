"""Test the file with the clients' secret: its creation, its replacement, invalid content, and failed writes."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.serving.authorization import (
    MAX_SECRET_BYTES,
    SECRET_BYTES,
    is_created_by_us,
    new_secret,
    start_secrets,
    write_secret,
)

SETTING = "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authorization-token"


def start(path: Path, mode: int = 0o640) -> bytes:
    """Return the secret of a daemon that starts with this file."""
    return start_secrets([str(path)], mode)[str(path)].value


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        start(path)
    message = str(caught.value)
    assert SETTING in message
    assert str(path) in message
    return message


# Creation of the file


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_missing_file_is_created_for_owner_and_group(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        secret = start(path)
    finally:
        os.umask(before)
    assert path.read_bytes() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_mode_of_a_new_file_is_configurable(path: Path) -> None:
    start(path, 0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_new_secrets_differ_and_fit_into_a_header() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(secret) >= SECRET_BYTES
        assert secret.isascii()
        assert secret.isprintable()
        assert " " not in secret


def test_file_of_an_operator_keeps_its_content_and_mode(path: Path) -> None:
    path.write_text("chosen-by-hand")
    path.chmod(0o600)
    assert start(path) == b"chosen-by-hand"
    assert path.read_text() == "chosen-by-hand"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  "])
def test_start_replaces_a_secret_that_we_created(path: Path, ending: str) -> None:
    """Replace the secret, because another program may have listened on the port while the daemon was stopped."""
    secrets = [start(path)]
    for _ in range(3):
        path.write_bytes(path.read_bytes() + ending.encode())
        secrets.append(start(path))
        assert path.read_bytes() == secrets[-1]
    assert len(set(secrets)) == 4


@pytest.mark.parametrize(
    "content",
    [
        "chosen-by-hand",
        "irsa-sidecar-",
        "irsa-sidecar-test",
        "x" * 43,
        f"irsa-sidecar-{'x' * 42}",
        f"irsa-sidecar-{'x' * 44}",
        f"irsa-sidecar-{'x' * 42}=",
        f"IRSA-SIDECAR-{'x' * 43}",
        f"Bearer irsa-sidecar-{'x' * 43}",
    ],
)
def test_start_keeps_the_secret_of_an_operator(path: Path, content: str) -> None:
    path.write_text(content)
    before = path.stat()
    assert start(path) == content.encode()
    after = path.stat()  # a comparison of all fields would fail, because reading the file may change its access time
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)
    assert path.read_text() == content


def test_secrets_that_we_create_are_recognized() -> None:
    assert all(is_created_by_us(new_secret().encode()) for _ in range(1000))


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_start_replaces_a_secret_of_ours_in_a_read_only_file(path: Path, mode: int) -> None:
    old = start(path)
    path.chmod(mode)
    assert start(path, 0o644) != old
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("is_there", [True, False])
def test_roles_that_share_a_file_get_one_secret(path: Path, *, is_there: bool) -> None:
    """Let each role write the path differently."""
    if is_there:
        start(path)
    (path.parent / "link").symlink_to(path.parent)
    spellings = [str(path), str(path), str(path.parent / "link" / path.name), f"{path.parent}/./{path.name}"]
    secrets = {secret.value for secret in start_secrets(spellings).values()}
    assert secrets == {path.read_bytes()}


def test_secret_in_use_is_not_replaced(path: Path) -> None:
    known = start_secrets([str(path)])
    other = str(path.parent / "other")
    write_secret(other, new_secret())
    before = Path(other).read_bytes()
    assert start_secrets([str(path), other], known=known)[str(path)].value == known[str(path)].value
    assert Path(other).read_bytes() != before


def test_read_only_volume_with_our_secret_is_an_error(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root and CAP_SYS_ADMIN")
    path = tmp_path / "token"
    try:
        start(path)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        assert "Read-only file system" in refusal(path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_secret_is_not_in_repr(path: Path) -> None:
    secret = start_secrets([str(path)])[str(path)]
    assert secret.value.decode() not in repr(secret)


def test_line_ending_of_the_secret_is_ignored(path: Path) -> None:
    path.write_text("chosen-by-hand\r\n")
    assert start(path) == b"chosen-by-hand"


def test_dangling_link_is_replaced(path: Path) -> None:
    path.symlink_to("nowhere")
    secret = start(path)
    assert path.read_bytes() == secret
    assert not path.is_symlink()


# Invalid content


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
        # The read is limited, and stops directly after the first line.
        b"x" * MAX_SECRET_BYTES + b"\nsecond line",
    ],
)
def test_invalid_secret_is_rejected_and_not_shown(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    message = refusal(path)
    assert "Remove it" in message
    assert "lines" not in message
    assert "xxx" not in message


def test_longest_secret_is_accepted(path: Path) -> None:
    path.write_bytes(b"x" * MAX_SECRET_BYTES)
    assert start(path) == b"x" * MAX_SECRET_BYTES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=64))
def test_any_content_is_a_valid_secret_or_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "authorization-token"
    path.write_bytes(content)
    try:
        secret = start(path)
    except ConfigurationError:
        return
    assert secret == content.strip()
    assert secret.decode("ascii").isprintable()


def test_directory_or_fifo_is_rejected(tmp_path: Path) -> None:
    assert "one line" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "one line" in refusal(tmp_path / "fifo")


def test_unreadable_file_is_an_error_with_the_reason() -> None:
    # /proc/self/mem opens like a file, and its first bytes cannot be read.
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("this system has no /proc")
    assert "Input/output error" in refusal(Path("/proc/self/mem"))


def test_missing_directory_is_an_error_with_the_fix(tmp_path: Path) -> None:
    message = refusal(tmp_path / "missing" / "token")
    assert "No such file or directory" in message
    assert "emptyDir" in message


def test_read_only_directory_is_an_error() -> None:
    # /proc accepts no new files, not even from root.
    if not os.path.isdir("/proc/self"):
        pytest.skip("this system has no /proc")
    assert "cannot be created" in refusal(Path("/proc/self/authorization-token"))


@pytest.mark.parametrize("failing", ["fchmod", "rename"])
def test_failed_write_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    assert "No space left on device" in refusal(path)
    assert os.listdir(path.parent) == []


def test_full_disk_leaves_no_partial_secret(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("making a small file system needs root and CAP_SYS_ADMIN")
    try:
        (tmp_path / "filler").write_bytes(b"x" * 4096)
        assert "No space left on device" in refusal(tmp_path / "authorization-token")
        assert os.listdir(tmp_path) == ["filler"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_partial_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    (tmp_path / "token.draft").write_text("half of a sec")
    write_secret(str(path), "secret")
    assert path.read_text() == "secret"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
