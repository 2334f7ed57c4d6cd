"""Test the token volume from a reader's view, and the times of renewal."""

import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sidecar.local.issuer import IssuedToken
from sidecar.local.kubelet import TokenVolume, keep_fresh, needs_renewal, renew
from tests.support.fakes.clock import EPOCH, FakeWall


def test_write_creates_the_same_layout_as_the_kubelet(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path / "run" / "token-volume")
    volume.write("first", EPOCH)
    assert volume.token_file.read_bytes() == b"first"
    assert volume.token_file.readlink() == Path("..data/token")
    data = (volume.directory / "..data").readlink()
    assert str(data).startswith("..2027_01_15_08_00_00.")
    assert sorted(path.name for path in volume.directory.iterdir()) == sorted(["..data", data.name, "token"])


def test_only_the_owner_may_read_the_token(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path / "v")
    volume.write("first", EPOCH)
    for path, mode in ((volume.token_file, 0o600), (volume.directory / "..data", 0o700), (volume.directory, 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_second_write_replaces_the_data_directory(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path)
    volume.write("first", EPOCH)
    old = (tmp_path / "..data").readlink()
    volume.write("second", EPOCH)
    assert volume.token_file.read_bytes() == b"second"
    assert (tmp_path / "..data").readlink() != old
    assert not (tmp_path / old).exists()


def test_write_of_the_same_token_changes_nothing(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path)
    volume.write("first", EPOCH)
    before = (tmp_path / "..data").readlink()
    volume.write("first", EPOCH + 60)
    assert (tmp_path / "..data").readlink() == before


def test_next_write_succeeds_after_a_crash_before_the_rename(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path)
    volume.write("first", EPOCH)
    (tmp_path / "..data_tmp").symlink_to("nowhere")
    volume.write("second", EPOCH)
    assert volume.token_file.read_bytes() == b"second"


def test_reader_always_sees_a_complete_token(tmp_path: Path) -> None:
    volume = TokenVolume(tmp_path)
    volume.write(token_of(0), EPOCH)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                seen.add(volume.token_file.read_bytes())
            except FileNotFoundError:
                continue  # a write removed the old directory during `open`

    reader = threading.Thread(target=read)
    reader.start()
    written = 1
    while written < 300 or (len(seen) < 2 and reader.is_alive()):  # the reader may have to wait for a processor
        volume.write(token_of(written), EPOCH)
        written += 1
    done.set()
    reader.join()
    assert len(seen) > 1
    assert seen <= {token_of(number).encode() for number in range(written)}


def token_of(number: int) -> str:
    return f"{number}".zfill(900)


TOKEN = IssuedToken("t", EPOCH, EPOCH + 600)
LONG = IssuedToken("t", EPOCH, EPOCH + 200 * 3600)


@pytest.mark.parametrize(
    ("token", "age", "jitter", "expected"),
    [
        (TOKEN, 0, 10, False),
        (TOKEN, 480, 0, False),
        (TOKEN, 481, 0, True),
        (TOKEN, 471, 10, True),
        (TOKEN, -1, 0, True),
        (LONG, 86_400, 0, False),
        (LONG, 86_401, 0, True),
    ],
)
def test_token_is_renewed_by_the_rule_of_the_kubelet(
    token: IssuedToken, age: float, jitter: float, *, expected: bool
) -> None:
    assert needs_renewal(token, EPOCH + age, jitter) is expected


@given(st.integers(600, 200_000), st.floats(0, 10))
def test_token_is_renewed_in_the_last_fifth_of_its_lifetime(lifetime: int, jitter: float) -> None:
    token = IssuedToken("t", EPOCH, EPOCH + lifetime)
    assert needs_renewal(token, token.expires_at - 0.19 * lifetime, jitter)


class Api:
    """An API server that numbers its tokens. It also stores the names of events."""

    def __init__(self, wall: FakeWall) -> None:
        self.wall = wall
        self.count = 0
        self.events: list[str] = []

    def issue(self) -> IssuedToken:
        self.count += 1
        return IssuedToken(f"token-{self.count}", self.wall.time(), self.wall.time() + 600)

    def emit(self, event: str, /, **_: Any) -> None:
        self.events.append(event)


async def _keep(volume: TokenVolume, api: Api, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    token = renew(volume, api.issue, api.wall.time(), api.emit)
    meanwhile()
    with trio.move_on_after(seconds):
        await keep_fresh(volume, token, api.issue, clock=api.wall.clock, jitter=lambda: 0.0, emit=api.emit)


async def test_tokens_are_renewed_after_80_percent_of_lifetime(
    tmp_path: Path, wall: FakeWall, autojump_clock: object
) -> None:
    volume, api = TokenVolume(tmp_path), Api(wall)
    await _keep(volume, api, 479)
    assert volume.token_file.read_text() == "token-1"
    await _keep(volume, api, 491)
    assert volume.token_file.read_text() == "token-3"


async def test_clock_jump_renews_the_token_at_once(tmp_path: Path, wall: FakeWall, autojump_clock: object) -> None:
    for step in (-100, 3600):
        api = Api(wall)
        await _keep(TokenVolume(tmp_path), api, 6, lambda step=step: wall.step(step))  # type: ignore[misc]
        assert api.count == 2


async def test_failed_write_keeps_the_token_and_is_retried(
    tmp_path: Path, wall: FakeWall, autojump_clock: object
) -> None:
    volume, api = TokenVolume(tmp_path / "v"), Api(wall)
    blocker = volume.directory / "..data_tmp"

    def block() -> None:
        blocker.mkdir()
        wall.step(500)

    await _keep(volume, api, 11, block)
    assert api.events == ["token_renewed", "token_renewal_failed", "token_renewal_failed"]
    assert volume.token_file.read_text() == "token-1"
    assert len(list(volume.directory.glob("..2*"))) == 1
