"""Test token files of all kinds in a Pod: complete, partial, huge, missing and unreadable."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import TokenError
from sidecar.files import file_version
from sidecar.token import Token, decode_token, read_token
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.tokens import service_account_token

NOW = 1_800_000_000.0
PATH = "/var/run/secrets/token"


def refusal_at(path: str | Path) -> TokenError:
    with pytest.raises(TokenError) as caught:
        read_token(str(path))
    return caught.value


def refusal_of(content: str | bytes) -> TokenError:
    with pytest.raises(TokenError) as caught:
        decode_token(content.encode() if isinstance(content, str) else content, PATH)
    return caught.value


def token_with(**changes: Any) -> Token:
    return decode_token(service_account_token(NOW, **changes).encode(), PATH)


# Reading the file


def test_projected_token_is_read_with_its_claims(volume: FakeVolume) -> None:
    raw = service_account_token(NOW)
    volume.write(raw)
    assert read_token(volume.path) == Token(
        raw=raw,
        issuer="https://oidc.example.com/id/A",
        subject="system:serviceaccount:shop:cart",
        audiences=("sts.amazonaws.com",),
        authorized_party=None,
        issued_at=NOW,
        not_before=NOW,
        expires_at=NOW + 3600,
        namespace="shop",
        service_account="cart",
        pod="cart-7d4b9c-x2x9z",
        pod_uid="2",
    )


def test_rotated_token_is_read_again(volume: FakeVolume) -> None:
    for now in (NOW, NOW + 2880):
        volume.write(service_account_token(now))
        assert read_token(volume.path).issued_at == now


def test_missing_file_is_reported_with_its_variable(volume: FakeVolume) -> None:
    error = refusal_at(volume.path)
    assert error.reason == "missing"
    assert volume.path in str(error)
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in str(error)


@pytest.mark.parametrize("misses", [1, 2])
def test_file_that_is_missing_for_a_moment_is_read_again(
    volume: FakeVolume, monkeypatch: pytest.MonkeyPatch, misses: int
) -> None:
    volume.write(service_account_token(NOW))
    real_open, opened = os.open, []

    def open_between_two_renames(path: str, flags: int) -> int:
        opened.append(path)
        if len(opened) <= misses:
            raise FileNotFoundError(2, "No such file or directory", path)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", open_between_two_renames)
    if misses == 1:
        assert read_token(volume.path).pod == "cart-7d4b9c-x2x9z"
    else:
        assert refusal_at(volume.path).reason == "missing"
    assert len(opened) == 2


def test_read_during_a_rotation_returns_a_whole_token(volume: FakeVolume) -> None:
    tokens = [service_account_token(NOW + turn) for turn in range(100)]
    volume.write(tokens[0])
    ended = threading.Event()
    seen: list[str] = []
    failures: list[TokenError] = []

    def read_on() -> None:
        while not (seen and ended.is_set()):
            try:
                seen.append(read_token(volume.path).raw)
            except TokenError as error:
                failures.append(error)

    reader = threading.Thread(target=read_on)
    reader.start()
    for raw in tokens[1:]:
        volume.write(raw)
        assert read_token(volume.path).raw == raw
    ended.set()
    reader.join()
    assert set(seen) <= set(tokens)
    assert seen == sorted(seen, key=tokens.index)  # an older token never follows a newer token
    # If two renames happen during a read, the file may be reported as missing. No other error is possible.
    assert {error.reason for error in failures} <= {"missing"}


def test_huge_file_is_rejected_after_a_bounded_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with path.open("wb") as file:
        file.truncate(10 * 1024 * 1024)
        file.write(b"eyJ")
    assert refusal_at(path).reason == "too_long"


def test_fifo_is_rejected_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "token"
    os.mkfifo(path)
    assert refusal_at(path).reason == "not_a_file"


def test_directory_is_rejected(tmp_path: Path) -> None:
    error = refusal_at(tmp_path)
    assert error.reason == "not_a_file"
    assert "Mount the volume at a directory" in str(error)


def test_path_through_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal_at(tmp_path / "file" / "token").reason == "unreadable"


def test_loop_of_links_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to("token")
    error = refusal_at(tmp_path / "token")
    assert error.reason == "unreadable"
    assert "symbolic links" in str(error)


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Run the test as another user if it runs as root, because root may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(4321)
    os.seteuid(4321)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    ("directory_mode", "seen"), [(0o755, "mode 0000, owner"), (0o000, "its directory may not be searched either")]
)
def test_unreadable_file_is_reported_with_mode_and_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory_mode: int, seen: str
) -> None:
    monkeypatch.chdir(tmp_path)  # only root may enter the parent directories
    (tmp_path / "token").write_text(service_account_token(NOW))
    (tmp_path / "token").chmod(0o000)
    tmp_path.chmod(directory_mode)
    try:
        with as_somebody_else():
            error = refusal_at("token")
            who = f"uid {os.geteuid()}, gid {os.getegid()}"
    finally:
        tmp_path.chmod(0o755)
    assert error.reason == "unreadable"
    assert who in str(error)
    assert seen in str(error)
    assert "fsGroup" in str(error)


# Changes of the file


def test_file_version_changes_only_with_a_rotation(volume: FakeVolume) -> None:
    assert file_version(volume.path) is None
    seen = []
    for now in range(3):
        volume.write(service_account_token(NOW + now))
        seen.append(file_version(volume.path))
        assert file_version(volume.path) == seen[-1]
    assert len(set(seen)) == 3
    volume.remove()
    assert file_version(volume.path) is None


def test_file_version_changes_when_rewritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    before = file_version(str(path))
    path.write_text("other")
    assert file_version(str(path)) != before
