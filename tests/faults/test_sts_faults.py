"""
Test faults of STS, one test for each fault.

On loopback, the real client gets a real response with the fault. The refresher then gets the client's result, with fake
clocks. Each test thus shows the next retry, and the credentials that the daemon still serves.
"""

import gzip
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import NextStep
from sidecar.sts.client import MAX_REPLY_BYTES, ExchangeResult
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token
from tests.faults.retries import HOUR_SECONDS, LAST_MINUTE, LAST_MINUTES, retries_after
from tests.support.exchanges import (
    failure,
    failure_of,
    scripted,
)
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply
from tests.support.scene import Scene, make_scene, running
from tests.support.served import GET, Served, status_of

pytestmark = pytest.mark.usefixtures("no_proxies")


async def test_expired_token_is_retried_once_a_minute(autojump_clock: MockClock, scene: Scene) -> None:
    """
    STS returns 400 ExpiredTokenException.

    The daemon sends the same token once a minute, and a new token at once.
    """
    expired = await failure_of(error_reply(400, "ExpiredTokenException", "Token expired"))
    delays = await retries_after(scene, expired, seconds=900)
    assert len(delays) >= 13
    assert set(delays) == {60 + scene.sts.latency_seconds}
    scene.sts.error = expired
    async with running(scene):
        scene.wall.step(1810)
        await trio.sleep(630)  # the token is replaced between two attempts

        scene.sts.error = None
        scene.write_token(jti="new")
        await trio.sleep(1)
    assert scene.sts.tokens[-1] == scene.held_token()
    assert scene.sts.called_at[-1] >= trio.current_time() - 1


async def test_invalid_identity_token_is_retried_quickly_then_slowly(autojump_clock: MockClock, scene: Scene) -> None:
    """
    STS returns 400 InvalidIdentityToken.

    The daemon retries within seconds at first, because IAM needs seconds to activate a new OIDC provider, and then
    about once a minute. The message shows the fix.
    """
    message = "No OpenIDConnect provider found in your account for https://oidc.example"
    delays = await retries_after(
        scene, await failure_of(error_reply(400, "InvalidIdentityToken", message)), seconds=900
    )
    assert [round(delay) for delay in delays[:5]] == [4, 8, 17, 34, 51]
    assert set(map(round, delays[4:])) == {51}
    assert "create it in IAM" in scene.logged("refresh_failed")[0]["reason"]


async def test_idp_communication_error_delays_grow_from_1_s_to_1_min(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    STS returns 400 IDPCommunicationError.

    Delays grow from 1 s to 1 min, or to up to 5 min while credentials are valid. Jitter shortens each delay by up to
    nine tenths.
    """
    error = await failure_of(error_reply(400, "IDPCommunicationError", "Couldn't retrieve verification key"))
    assert error.next_step is NextStep.RETRY
    by_luck = []
    for luck in (0.0, 0.999):
        scene = make_scene(wall, volume, jitter=cycle([luck]).__next__)
        by_luck.append(await retries_after(scene, error, seconds=600, remaining_seconds=LAST_MINUTES))
    shortest, longest = by_luck
    assert [round(delay) for delay in longest[:8]] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [round(10 * delay) for delay in shortest[:8]] == [1, 2, 4, 8, 16, 32, 60, 60]


REFUSALS = {
    "AccessDenied": ("trust policy", "sub", "aud"),
    "IDPRejectedClaim": ("rejected or revoked",),
    "RegionDisabledException": ("activate it in IAM", "AWS_REGION"),
}


async def test_403_is_retried_about_once_a_minute(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    STS returns 403: access denied, a rejected claim, or a disabled region.

    After four faster retries, the daemon retries about once a minute without a limit. The message shows what to check.
    """
    for code, words in REFUSALS.items():
        scene = make_scene(wall, volume)
        delays = await retries_after(scene, await failure_of(error_reply(403, code, "Not authorized")), seconds=900)
        assert set(map(round, delays[4:])) == {51}
        reason = scene.logged("refresh_failed")[0]["reason"]
        assert all(word in reason for word in words)


async def test_throttling_doubles_the_delay_from_5_s(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    STS throttles with status 400 or 429.

    The first delay is at most 5 s, or at most 1 min while credentials are valid. The delay doubles with each failure,
    up to 2 min, or up to 5 min while credentials are valid. The daemon respects Retry-After.
    """
    for reply in (error_reply(400, "Throttling", "Rate exceeded"), Reply(429, b"slow down")):
        scene, error = make_scene(wall, volume, jitter=lambda: 0.999), await failure_of(reply)
        delays = await retries_after(scene, error, seconds=900, remaining_seconds=LAST_MINUTE)
        assert [round(delay) for delay in delays[:6]] == [5, 10, 20, 40, 80, 120]
        patient_delays = await retries_after(make_scene(wall, volume, jitter=lambda: 0.999), error, seconds=900)
        assert [round(delay) for delay in patient_delays] == [60, 120, 240]
    output = await failure_of(error_reply(400, "Throttling", "Rate exceeded", {"Retry-After": "100"}))
    delays = await retries_after(make_scene(wall, volume), output, seconds=900, remaining_seconds=LAST_MINUTES)
    assert min(delays) >= 100
    assert max(delays) <= 120


async def test_5xx_is_retried_with_growing_delays(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    STS returns 500, 502, 503 or 504.

    Delays grow from 1 s to 1 min, or to up to 5 min while credentials are valid. Jitter shortens each delay by up to
    nine tenths.
    """
    bodies = error_reply(500, "InternalFailure").body, b"", b"<html><h1>Bad Gateway</h1></html>", b"\xff\x00"
    for status, body in zip((500, 502, 503, 504), bodies, strict=True):
        error = await failure_of(Reply(status, body))
        assert error.status == status
        scene = make_scene(wall, volume, jitter=lambda: 0.999)
        delays = await retries_after(scene, error, seconds=600, remaining_seconds=LAST_MINUTES)
        assert [round(delay) for delay in delays[:7]] == [1, 2, 4, 8, 16, 32, 60]
        patient_delays = await retries_after(make_scene(wall, volume, jitter=lambda: 0.999), error, seconds=900)
        assert [round(delay) for delay in patient_delays] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def _good_but(old: str, new: str) -> bytes:
    return good_reply().body.decode().replace(old, new).encode()


NO_CREDENTIALS = {
    "a page": b"<!doctype html><html><body>Sign in to the Wi-Fi</body></html>",
    "nothing": b"",
    "JSON": b'{"AccessKeyId": "ASIA", "SecretAccessKey": "s"}',
    "cut off": good_reply().body[:-30],
    "another action's": _good_but("AssumeRoleWithWebIdentity", "GetCallerIdentity"),
    "no secret": _good_but("<SecretAccessKey>ASIAFAKE0001/secret</SecretAccessKey>", ""),
    "an empty session": _good_but("ASIAFAKE0001/session", ""),
    "an element in a key": _good_but("ASIAFAKE0001/secret", "<b>x</b>"),
    "two keys": _good_but("<AccessKeyId>", "<AccessKeyId>ASIAOTHER</AccessKeyId><AccessKeyId>"),
    "an entity": b'<!DOCTYPE r [<!ENTITY x "x">]>' + good_reply().body,
}


async def test_malformed_200_is_rejected_and_not_logged(autojump_clock: MockClock, scene: Scene) -> None:
    """
    STS returns 200 with HTML, partial XML, wrong types, or no body.

    The daemon rejects the response, logs no part of it, and continues to serve the stored credentials.
    """
    errors = [await failure_of(Reply(200, body)) for body in NO_CREDENTIALS.values()]
    for error in errors:
        assert (error.code, error.next_step) == ("MalformedReply", NextStep.RETRY)
        assert "ASIAFAKE" not in str(error)
    assert max(await retries_after(scene, errors[-1], seconds=600, remaining_seconds=LAST_MINUTES)) <= 60


async def test_huge_compressed_or_redirecting_response_is_rejected(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The response is huge, a gzip bomb, or a redirect.

    The daemon stops at 256 KiB, decompresses nothing, and sends the token to no other address.
    """
    endless = Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_REPLY_BYTES * 8))
    assert str(MAX_REPLY_BYTES) in (await failure_of(endless)).message
    bomb = gzip.compress(b"\0" * MAX_REPLY_BYTES * 100)
    assert len(bomb) < MAX_REPLY_BYTES
    assert "gzip" in (await failure_of(Reply(200, bomb, {"Content-Encoding": "gzip"}))).message
    errors = []
    for status in (301, 302, 303, 307, 308):
        async with scripted() as elsewhere, scripted(Reply(status, b"", {"Location": elsewhere.url})) as sts:
            error = await failure(sts.url)
            assert error.status == status
            assert elsewhere.requests == []
            assert sts.requests[0].header("accept-encoding") == "identity"
        errors.append(error)
    assert max(await retries_after(scene, errors[-1], seconds=600, remaining_seconds=LAST_MINUTES)) <= 60


async def test_past_missing_or_absurd_expiration_is_rejected(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    """
    Expiration is missing, in the past, or absurd.

    The daemon rejects the credentials with an error and does not invent an expiration. It continues to serve the
    stored credentials.
    """
    for expiration in ("", "2027-01-15T09:00:00", "1800003600", "tomorrow", "2027-02-30T09:00:00Z"):
        assert "Expiration" in (await failure_of(good_reply(expiration=expiration))).message
    for life_seconds in (-HOUR_SECONDS, 0, 13 * HOUR_SECONDS, 10 * 365 * 24 * HOUR_SECONDS):
        scene = make_scene(wall, volume)
        scene.write_token()
        async with running(scene):
            await trio.sleep(1)
            scene.sts.life_seconds = life_seconds
            await trio.sleep(3000)
            assert scene.key == "ASIAFAKE0001"
            await trio.sleep(600)
            assert scene.key is None
        output = scene.logged("refresh_failed")[0]
        assert (output["level"], output["code"]) == ("warning", "MalformedReply")


async def test_older_credentials_do_not_replace_newer_ones(autojump_clock: MockClock, scene: Scene) -> None:
    """
    Older credentials arrive after newer credentials.

    The daemon logs and ignores the older credentials. Only credentials that expire later replace the stored
    credentials.
    """
    scene.write_token()
    async with running(scene):
        await trio.sleep(1)
        scene.sts.life_seconds = 600
        await trio.sleep(1850)
        assert scene.key == "ASIAFAKE0001"
        scene.sts.life_seconds = 3600
        await trio.sleep(600)
        assert scene.key not in {"ASIAFAKE0001", None}
    assert scene.logged("older_credentials_ignored")


SEED, PODS = 30, 40


class ThrottledSts(FakeExchange):
    """
    A fake STS that accepts `A_SECOND` requests per second and throttles the rest.

    `most_in_flight` is the maximum number of concurrent requests with the same token, and therefore from the same Pod.
    """

    A_SECOND = 5

    def __init__(self, wall: FakeWall) -> None:
        super().__init__(wall.time)
        self.throttled = self.most_in_flight = 0
        self._in_flight: dict[str, int] = {}

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        within = sum(at > trio.current_time() - 1 for at in self.called_at[-self.A_SECOND :])
        self._in_flight[token.raw] = self._in_flight.get(token.raw, 0) + 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight[token.raw])
        try:
            await trio.sleep(0.2)
            if within == self.A_SECOND:
                self.throttled += 1
                raise refusal("Throttling", NextStep.SLOW_DOWN)
            return await super().__call__(request, token)
        finally:
            self._in_flight[token.raw] -= 1


async def test_fleet_that_restarts_spreads_its_retries(
    autojump_clock: MockClock, wall: FakeWall, tmp_path: Path
) -> None:
    """
    A fleet of Pods restarts at once.

    Each Pod calls STS at once, one call at a time. Jitter spreads the retries of throttled Pods.
    """
    print(f"seed {SEED}")
    chance, sts = random.Random(SEED), ThrottledSts(wall)
    pods = [_pod(wall, tmp_path / str(number), sts, chance) for number in range(PODS)]
    async with running(*pods):
        await trio.sleep(90)
        assert all(pod.key for pod in pods)
        throttled = sts.throttled
        assert throttled < 3 * PODS
        await trio.sleep(2000)
    refreshes = sts.called_at[PODS:]
    assert len(refreshes) == PODS
    assert max(refreshes) - min(refreshes) > 300
    assert sts.throttled == throttled
    assert sts.most_in_flight == 1


def _pod(wall: FakeWall, directory: Path, sts: FakeExchange, chance: random.Random) -> Scene:
    directory.mkdir()
    pod = make_scene(wall, FakeVolume(directory), sts, jitter=chance.random)
    pod.write_token(jti=directory.name)
    return pod


async def test_sts_outage_does_not_end_service_before_expiration(autojump_clock: MockClock, served: Served) -> None:
    """
    STS is unavailable for hours.

    The daemon serves credentials until they expire, and then a 503 with the reason. It recovers soon after the outage.
    """
    served.daemon.role.refresher._jitter = lambda: 0.999  # each delay is as long as possible

    served.sts.error = await failure_of(error_reply(503, "ServiceUnavailable", "come back later"))
    async with _hours_passing(autojump_clock):
        await trio.sleep(HOUR_SECONDS - 5)
    assert b"ASIAFAKE0001" in await served.send(GET)
    async with _hours_passing(autojump_clock):
        await trio.sleep(6 * HOUR_SECONDS)
    response = await served.send(GET)
    assert status_of(response) == 503
    assert b'"Code": "CredentialsUnavailable"' in response
    assert b"expired at 2027-01-15T09:00:00Z: ServiceUnavailable: come back later" in response
    served.sts.error = None
    await trio.sleep(60)
    assert status_of(await served.send(GET)) == 200


@asynccontextmanager
async def _hours_passing(clock: MockClock) -> AsyncIterator[None]:
    """Let virtual time pass without waiting for the kernel, because no data is in transit."""
    waits, clock.autojump_threshold = clock.autojump_threshold, 0.0
    yield
    clock.autojump_threshold = waits
