"""
Test faults of the token and its file, one test for each fault.

The tests run the refresher with both clocks faked, or a process if the kernel must check permissions.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import NextStep
from sidecar.injection.pod_termination import served_while_terminating_seconds
from sidecar.refresh.schedule import CHECK_SECONDS, JITTER, TOKEN_POLL_SECONDS
from sidecar.token import STS_TOLERANCE_SECONDS
from tests.support.exchanges import failure_of
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.scripted_sts import error_reply
from tests.support.fakes.tokens import jwt_of, service_account_claims, service_account_token
from tests.support.processes import get, pod_environment, run_daemon, scripted_sts
from tests.support.scene import Scene, make_scene, running
from tests.support.served import GET, serving, status_of

DAY_SECONDS = 86_400


async def test_missing_token_is_polled_and_then_used(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The token file is missing at the start.

    The daemon polls every second, logs the path and the variable once, and returns 503. It serves credentials as soon
    as the token appears.
    """
    async with serving(autojump_clock, wall, volume, FakeExchange(wall.time), has_token=False) as served:
        await trio.sleep(30)
        assert served.daemon.metrics.refreshes == {("default", "token_missing"): pytest.approx(30, abs=1)}
        assert served.sts.called_at == []
        (output,) = served.logged("refresh_failed")
        assert volume.path in output["reason"]
        assert "AWS_WEB_IDENTITY_TOKEN_FILE" in output["reason"]
        response = await served.send(GET)
        assert status_of(response) == 503
        assert volume.path in json.loads(response.partition(b"\r\n\r\n")[2])["Message"]
        assert not served.daemon.role.state(wall.clock.now()).is_ready
        volume.write(service_account_token(wall.time()))
        await trio.sleep(TOKEN_POLL_SECONDS)
        assert status_of(await served.send(GET)) == 200


async def test_empty_token_is_never_sent(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The token is empty or white space.

    The daemon waits for a token, never sends an empty token, and serves its credentials.
    """
    await _keeps_credentials(scene, "empty", "", " \n\t\r\n", "\ufeff\n")


async def test_partial_token_is_counted_and_never_sent(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The token is partly written or not a JWT.

    The daemon counts the error, does not send the token, serves its credentials, and finds a whole token within a
    second.
    """
    token = service_account_token(scene.wall.time())
    half, signed_not = token[: len(token) // 2], token[: token.rindex(".") + 1]
    await _keeps_credentials(scene, "malformed", half, signed_not, "a.b.c", "<html>", "\0" * 900)


async def _keeps_credentials(scene: Scene, reason: str, *contents: str) -> None:
    """Check each content while a refresh is due, and then a valid token."""
    for content in contents:
        scene.write_token()
        async with running(scene):
            await trio.sleep(CHECK_SECONDS)
            before, key = len(scene.sts.called_at), scene.key
            Path(scene.volume.path).write_text(content)  # the same file is overwritten, as by a shell's redirection

            await trio.sleep(2400)
            assert len(scene.sts.called_at) == before
            assert scene.key == key is not None
            assert scene.outcomes[f"token_{reason}"] > 500
            Path(scene.volume.path).write_text(service_account_token(scene.wall.time()))
            await trio.sleep(TOKEN_POLL_SECONDS + 0.1)
            assert len(scene.sts.called_at) == before + 1
            assert scene.key not in {key, None}


async def test_newline_and_byte_order_mark_are_stripped(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The token has a trailing newline or a byte order mark.

    The daemon strips the newline and the byte order mark, so STS gets only the token.
    """
    token = service_account_token(scene.wall.time())
    for before, after in (("", "\n"), ("", "\r\n"), ("\ufeff", ""), ("\ufeff \t", "\n\n")):
        scene.volume.write(before + token + after)
        async with running(scene):
            await trio.sleep(CHECK_SECONDS)
        scene.wall.step(1800)
    assert scene.sts.tokens == [token] * 4


async def test_swapped_data_link_gives_a_whole_token(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The kubelet swaps the `..data` link during a read.

    The daemon reads the whole old token or the whole new token, and tries again if the file is missing.
    """
    for is_gone in (False, True):
        scene = make_scene(wall, volume)
        tokens = [service_account_token(wall.time(), jti=name * 400) for name in "abcdefghij"]
        volume.write(tokens[0])
        with _swapped_by_each_read(volume, tokens[1:], is_gone=is_gone):
            async with running(scene):
                await trio.sleep(60)
                wall.step(1800)
                await trio.sleep(60)
        assert scene.held_token() == tokens[-1]
        assert scene.sts.tokens[0] in tokens[1:-1]
        assert scene.sts.tokens[1] in tokens
        assert scene.outcomes == {"success": 2}


@contextmanager
def _swapped_by_each_read(volume: FakeVolume, tokens: list[str], *, is_gone: bool) -> Iterator[None]:
    """Replace the file after each open and before the read. If `is_gone`, every second open finds no file."""
    real_open, opened = os.open, count()

    def open_and_swap(name: Any, flags: int, *more: Any, **named: Any) -> int:
        if name != volume.path or not tokens:
            return real_open(name, flags, *more, **named)
        if is_gone and next(opened) % 2 == 0:
            raise FileNotFoundError(2, "No such file or directory", name)
        descriptor = real_open(name, flags)
        volume.write(tokens.pop(0))
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_and_swap)
        yield


async def test_rotation_during_a_request_causes_no_extra_call(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The token rotates during a request to STS.

    The daemon accepts the response to the old token. The next refresh sends the new token, without an extra call.
    """
    scene.write_token(jti="old")
    scene.sts.latency_seconds = 5.0
    async with running(scene):
        await trio.sleep(2)
        scene.write_token(jti="new")
        await trio.sleep(60)
        assert scene.key == "ASIAFAKE0001"
        assert len(scene.sts.tokens) == 1
        await trio.sleep(1800)
        assert scene.sts.tokens[1:] == [scene.held_token()]


async def test_retry_never_sends_an_expired_token(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The token expires during retries.

    Each attempt reads the file again, so it sends the renewed token instead of the expired token.
    """
    scene.sts.error = refusal("Unreachable", NextStep.RETRY)
    held: list[tuple[float, str]] = []
    scene.write_token(lifetime_seconds=60, jti="0")
    async with running(scene):
        for number in range(1, 40):
            held.append((trio.current_time(), scene.held_token()))
            await trio.sleep(47.3)
            scene.write_token(lifetime_seconds=60, jti=str(number))
    sent = zip(scene.sts.called_at, scene.sts.tokens, strict=True)
    assert [token for _, token in sent] == [
        next(token for since, token in reversed(held) if since <= asked) for asked in scene.sts.called_at
    ]
    assert len(set(scene.sts.tokens)) > 20


async def test_unrenewed_token_is_logged_and_retried_each_minute(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The kubelet does not renew the token for days.

    The daemon logs the likely cause, counts the error, retries each minute, and serves its credentials until they
    expire.
    """
    expired = await failure_of(error_reply(400, "ExpiredTokenException", "Token expired: current date/time"))
    scene.write_token(lifetime_seconds=3600)
    async with running(scene):
        await trio.sleep(3000)  # the served credentials are 20 minutes old

        scene.sts.error = expired
        await trio.sleep(2300)
        assert scene.key == "ASIAFAKE0002"
        await trio.sleep(200)
        assert scene.key is None
        await trio.sleep(DAY_SECONDS)
        assert scene.outcomes["ExpiredTokenException"] < 80 * 25
        assert len(scene.logged("refresh_failed")) <= 6 * 25 + 1
        scene.sts.error = None
        scene.write_token()
        await trio.sleep(1)
        assert scene.key is not None
    (foretold,) = scene.logged("token_claims_suspicious")
    assert "subPath" in foretold["reason"]
    assert "kubelet" in foretold["reason"]
    output = scene.logged("refresh_failed")[0]
    assert output["code"] == "ExpiredTokenException"
    assert "subPath" in output["reason"]


@pytest.mark.parametrize(("token_seconds", "session_seconds"), [(86_400, 3600), (3600, 3600), (86_400, 43_200)])
async def test_terminating_pod_refreshes_until_its_token_expires(
    autojump_clock: MockClock, scene: Scene, token_seconds: int, session_seconds: int
) -> None:
    """
    The Pod terminates, and the kubelet no longer renews its token.

    The daemon refreshes until the token expires. It then serves the last credentials until they expire.
    """
    expired = await failure_of(error_reply(400, "ExpiredTokenException", "Token expired: current date/time"))
    scene.refresher.role = scene.refresher.role._replace(duration_seconds=session_seconds)
    scene.sts.life_seconds = session_seconds
    scene.write_token(lifetime_seconds=token_seconds)
    async with running(scene):
        await trio.sleep(token_seconds * 0.8)  # a kubelet would renew the token now, but not for a terminating Pod
        terminates_at = trio.current_time()
        while trio.current_time() < token_seconds + STS_TOLERANCE_SECONDS:
            await trio.sleep(10)
            assert scene.key is not None
        scene.sts.error = expired
        newest_at = scene.sts.called_at[-1]
        await trio.sleep(newest_at + session_seconds - 12 - trio.current_time())
        assert scene.key is not None
        await trio.sleep(24)
        assert scene.key is None
    served_seconds = trio.current_time() - terminates_at
    longest = served_while_terminating_seconds(token_seconds, session_seconds)
    assert longest - session_seconds * (1 + JITTER) / 2 < served_seconds <= longest + STS_TOLERANCE_SECONDS + 22
    assert "ExpiredTokenException" in str(scene.refresher.health.last_error)
    assert "Pod that terminates" in str(scene.refresher.health.last_error)


LOOKS: dict[str, dict[str, Any]] = {
    "audience (aud) is vault": {"aud": ["vault"]},
    "has no aud": {"aud": None},
    "never expires": {"exp": None},
    "never expires:": {"exp": "soon"},
    "never expires: a legacy": {"exp": float("inf")},
    "was not renewed": {"exp": -1e308},
    "": {"iss": "https://elsewhere.example"},
}
"""Words of the warning about each suspicious claim. A wrong issuer has no warning: only IAM knows the valid issuer."""


async def test_token_with_wrong_claims_is_sent_after_one_warning(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    The token has a wrong audience, a wrong issuer or an invalid expiration.

    The daemon warns once if the claims show the problem, and sends the token. Claims never change the time of a
    refresh.
    """
    for words, changes in LOOKS.items():
        scene = make_scene(wall, volume)
        volume.write(jwt_of(service_account_claims(wall.time()) | changes))
        async with running(scene):
            await trio.sleep(3700)
        assert scene.intervals == [pytest.approx(1800, abs=2)] * 2
        reasons = [entry["reason"] for entry in scene.logged("token_claims_suspicious")]
        assert [words in reason for reason in reasons] == [True] * bool(words)


WITHOUT_ROOTS_PRIVILEGE = """
import ctypes, struct
libc = ctypes.CDLL(None)
head, sets = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0)), ctypes.create_string_buffer(24)
assert libc.capget(head, sets) == 0
effective, *rest = struct.unpack("6I", sets.raw)
assert libc.capset(head, struct.pack("6I", effective & ~0b110, *rest)) == 0
"""
"""A prelude that drops CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root reads every file (capabilities(7))."""


async def test_unreadable_token_is_reported_with_a_fix(tmp_path: Path) -> None:
    """
    The daemon has no permission to read the token.

    The error shows the user, the file's mode and the fix. The daemon reads the file once it has the permission.
    """
    token = tmp_path / "token"
    async with scripted_sts() as sts:
        environment = pod_environment(token, sts.url)
        token.chmod(0o000)
        async with run_daemon(environment, prelude=WITHOUT_ROOTS_PRIVILEGE) as running:
            reason = (await running.logged("refresh_failed"))["reason"]
            for words in (str(token), f"uid {os.geteuid()}", "mode 0000", "securityContext.fsGroup"):
                assert words in reason
            assert (await get(running.url))[0] == 503
            assert sts.requests == []
            token.chmod(0o400)
            await running.logged("credentials_refreshed")
            assert (await get(running.url))[0] == 200


async def test_fifo_link_loop_or_huge_token_does_not_block(
    autojump_clock: MockClock, wall: FakeWall, tmp_path: Path
) -> None:
    """
    The token path is a FIFO, a link to itself, or a file of 10 MiB.

    The daemon reads at most the size limit and does not wait. It uses a valid token as soon as one is at this path.
    """
    path = tmp_path / "token"
    kinds: dict[str, Callable[[], object]] = {
        "token_too_long": lambda: path.write_bytes(b"a" * 10 * 1024 * 1024),
        "token_not_a_file": lambda: os.mkfifo(path),
        "token_unreadable": lambda: path.symlink_to(path),
    }
    scene = make_scene(wall, FakeVolume(tmp_path))
    async with running(scene):
        for number, (reason, put) in enumerate(kinds.items()):
            put()
            before = _bytes_read()
            await trio.sleep(10)
            assert _bytes_read() - before < 11 * 2 * 32 * 1024
            assert scene.refresher.health.last_error_code == reason
            assert len(scene.sts.called_at) == number
            path.unlink()
            path.write_text(service_account_token(wall.time()))
            await trio.sleep(TOKEN_POLL_SECONDS + 0.1)
            assert len(scene.sts.called_at) == number + 1
            path.unlink()
            scene.wall.step(1800)


def _bytes_read() -> int:
    """Return the number of bytes that this process has read from any files (proc(5), io, rchar)."""
    return int(Path("/proc/self/io").read_text().split()[1])
