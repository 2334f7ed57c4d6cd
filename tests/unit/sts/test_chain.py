"""Test the requests of role chains: signatures, errors of a step, and the refresh loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
from trio.testing import MockClock

from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.errors import ExchangeError, NextStep
from sidecar.metrics import Metrics
from sidecar.refresh.refresher import Sources
from sidecar.role import ChainStep, Role
from sidecar.sts.client import ATTEMPT_SECONDS, Exchange, ExchangeResult, StsClient
from sidecar.sts.errors import explained
from sidecar.sts.failover import MAX_OUTAGES
from sidecar.sts.regions import StsRegion, StsRegions
from tests.support.exchanges import REQUEST, TOKEN, scripted
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.scripted_sts import Recorded, Reply, error_reply, good_reply
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.test_daemon import make_config, make_log

pytestmark = pytest.mark.usefixtures("no_proxies")

NEXT, LAST = "arn:aws:iam::444455556666:role/next", "arn:aws:iam::777788889999:role/last"
STEPS = (
    ChainStep(
        NEXT, "shop.cart", external_id="agreed", tags=(("team", "data"), ("cost", "")), transitive_tags=("team",)
    ),
    ChainStep(
        LAST, "report", 900, policy='{"Version":"2012-10-17"}', policy_arns=("arn:aws:iam::aws:policy/ViewOnly",)
    ),
)
CHAINED = REQUEST._replace(chain=STEPS)
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


def granted(access_key_id: str, account_id: str = "444455556666", *, date: str | None = DATE) -> Reply:
    return good_reply(access_key_id, operation="AssumeRole", account_id=account_id, date=date)


GOOD = (good_reply("ASIAFIRST", date=DATE), granted("ASIANEXT"), granted("ASIALAST", "777788889999"))


async def exchange(url: str, region: str = "eu-west-1") -> ExchangeResult:
    async with StsClient(url, region=region) as client:
        return await client.exchange(CHAINED, TOKEN)


async def failure_of(*replies: Reply) -> tuple[ExchangeError, list[Recorded]]:
    async with scripted(*replies) as sts:
        with pytest.raises(ExchangeError) as caught:
            await exchange(sts.url)
        return caught.value, sts.requests


def form(request: Recorded) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(request.body.decode(), keep_blank_values=True).items()}


def signed(request: Recorded) -> list[str | None]:
    return [request.header(name) for name in ("x-amz-date", "x-amz-security-token", "authorization")]


async def test_chain_returns_the_credentials_of_the_last_role() -> None:
    async with scripted(*GOOD) as sts:
        reply = await exchange(sts.url)
    assert reply.credentials.access_key_id == "ASIALAST"
    assert reply.credentials.role_arn == LAST
    assert reply.credentials.account_id == "777788889999"


async def test_chain_step_is_signed_with_the_previous_credentials() -> None:
    async with scripted(*GOOD) as sts:
        await exchange(sts.url)
    first, second, third = sts.requests
    assert signed(first) == [None, None, None]
    for request, key in ((second, "ASIAFIRST"), (third, "ASIANEXT")):
        date, token, authorization = signed(request)
        assert (date, token) == ("20270115T080000Z", f"{key}/session")
        assert authorization is not None
        assert authorization.startswith(
            f"AWS4-HMAC-SHA256 Credential={key}/20270115/eu-west-1/sts/aws4_request, "
            "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
        )
        assert len({name for name, _ in request.headers}) == len(request.headers)
        assert TOKEN.raw.encode() not in request.body


async def test_chain_step_sends_its_settings() -> None:
    async with scripted(*GOOD) as sts:
        await exchange(sts.url)
    assert form(sts.requests[1]) == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": NEXT,
        "RoleSessionName": "shop.cart",
        "DurationSeconds": "3600",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "data",
        "Tags.member.2.Key": "cost",
        "Tags.member.2.Value": "",
        "TransitiveTagKeys.member.1": "team",
        "ExternalId": "agreed",
    }
    assert form(sts.requests[2]) == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": LAST,
        "RoleSessionName": "report",
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ViewOnly",
        "Policy": '{"Version":"2012-10-17"}',
        "DurationSeconds": "900",
    }


async def test_exchange_sends_the_session_policies_of_the_role() -> None:
    async with scripted() as sts, StsClient(sts.url) as client:
        await client.exchange(REQUEST._replace(policy="{}", policy_arns=("arn:aws:iam::aws:policy/ViewOnly",)), TOKEN)
    sent = form(sts.requests[0])
    assert (sent["Policy"], sent["PolicyArns.member.1.arn"]) == ("{}", "arn:aws:iam::aws:policy/ViewOnly")


@pytest.mark.parametrize("date", [None, "Thu, 01 Jan 1970 00:00:00 GMT", "yesterday"])
async def test_chain_does_not_sign_with_an_absurd_date(date: str | None) -> None:
    began_at = datetime.now(UTC).replace(microsecond=0)
    async with scripted(good_reply(date=date), *GOOD[1:]) as sts:
        await exchange(sts.url)
    stamp = signed(sts.requests[1])[0]
    assert stamp is not None
    assert began_at <= datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z") <= datetime.now(UTC)


# Failing steps


@pytest.mark.parametrize("step", [1, 2])
async def test_chain_error_names_the_step_and_its_role(step: int) -> None:
    refused = error_reply(403, "AccessDenied", "User: x is not authorized", {"Retry-After": "7"})
    error, requests = await failure_of(*GOOD[:step], refused, granted("ASIANEVER"))
    role = STEPS[step - 1].role_arn
    assert error.problem == f"AccessDenied: step {step} of the chain, {role}: User: x is not authorized"
    assert (error.step, error.status, error.retry_after_seconds) == (step, 403, 7.0)
    assert error.next_step is NextStep.WAIT
    assert "trust policy must name the role before it" in explained(error)
    assert len(requests) == step + 1


async def test_token_error_in_a_chain_has_no_step() -> None:
    error, requests = await failure_of(error_reply(400, "ExpiredTokenException", "Token expired"))
    assert (error.problem, error.step) == ("ExpiredTokenException: Token expired", 0)
    assert error.next_step is NextStep.WAIT_FOR_TOKEN
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(raw=b"", reset=True), "Unreachable"),
        (good_reply(), "MalformedReply"),
        (Reply(503, b"<html>busy</html>"), "Http503"),
    ],
)
async def test_chain_error_names_the_step_without_a_valid_response(reply: Reply, code: str) -> None:
    error, _ = await failure_of(GOOD[0], reply)
    assert (error.code, error.step, error.next_step) == (code, 1, NextStep.RETRY)
    assert error.message.startswith(f"step 1 of the chain, {NEXT}: ")


async def test_chain_error_hides_parts_of_the_signed_request() -> None:
    session_token = "IQoJb3JpZ2luX2VjE" + "Jr+/=" * 60
    body = GOOD[0].body.replace(b"ASIAFIRST/session", session_token.encode())
    canonical = f"The Canonical String should have been 'POST / host:x x-amz-security-token:{session_token}'"
    error, requests = await failure_of(
        Reply(200, body, GOOD[0].headers), error_reply(403, "SignatureDoesNotMatch", canonical)
    )
    assert requests[1].header("x-amz-security-token") == session_token
    assert "x-amz-security-token:[hidden]" in str(error)
    shown = f"{error!r} {error.__cause__!r} {explained(error)}"
    assert not any(secret in shown for secret in (session_token[:20], "ASIAFIRST/secret"))


async def test_chain_call_has_its_own_deadline(autojump_clock: MockClock) -> None:
    slow = [Reply(reply.status, reply.body, reply.headers, delay_seconds=ATTEMPT_SECONDS - 1) for reply in GOOD]
    async with scripted(*slow) as sts:
        assert (await exchange(sts.url)).credentials.access_key_id == "ASIALAST"
        assert trio.current_time() == pytest.approx(3 * (ATTEMPT_SECONDS - 1))
    error, _ = await failure_of(GOOD[0], Reply(delay_seconds=3600))
    assert (error.code, error.step) == ("Timeout", 1)
    assert trio.current_time() == pytest.approx(3 * (ATTEMPT_SECONDS - 1) + ATTEMPT_SECONDS)


# In the daemon


@asynccontextmanager
async def serving(
    clock: MockClock, wall: FakeWall, volume: FakeVolume, exchange_with: Exchange, events: list[Any]
) -> AsyncIterator[Daemon]:
    clock.autojump_threshold = 0.02  # time for the kernel to deliver the bytes
    volume.write(service_account_token(wall.time(), lifetime_seconds=86_400))
    config = make_config(volume.path)
    role = Role("default", REQUEST.role_arn, volume.path, None, 3600, chain=STEPS)
    daemon = make_daemon(
        config._replace(roles=(role,)), exchange_with, sources=Sources(wall.clock, lambda: 0.5), log=make_log(events)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.serve, Listeners())
        yield daemon
        nursery.cancel_scope.cancel()


async def test_failed_chain_keeps_credentials_and_starts_again(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    denied = error_reply(403, "AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    first, second, last = GOOD
    last = good_reply(
        "ASIALAST", operation="AssumeRole", account_id="777788889999", date=DATE, expiration="2027-01-15T08:01:00Z"
    )
    fresh = good_reply("ASIAFRESH", operation="AssumeRole", date="Fri, 15 Jan 2027 08:00:40 GMT")
    replies = [first, second, last, first, second, denied, first, second, fresh]
    events: list[Any] = []
    async with (
        scripted(*replies) as sts,
        StsClient(sts.url, region="eu-west-1") as client,
        serving(autojump_clock, wall, volume, client.exchange, events) as daemon,
    ):
        await daemon.roles.first_credentials()
        served = [daemon.role.snapshot]
        while len(sts.requests) < 9:
            await trio.sleep(3)  # a time that is shorter than any back-off
            if daemon.role.snapshot is not served[-1]:
                served.append(daemon.role.snapshot)
    assert [snapshot and snapshot.credentials.access_key_id for snapshot in served] == ["ASIALAST", "ASIAFRESH"]
    assert {snapshot and snapshot.credentials.role_arn for snapshot in served} == {LAST}
    assert [form(request)["Action"] for request in sts.requests] == [
        "AssumeRoleWithWebIdentity",
        "AssumeRole",
        "AssumeRole",
    ] * 3
    (failed,) = [event for event in events if event["event"] == "refresh_failed"]
    assert (failed["code"], failed["step"]) == ("AccessDenied", 2)
    assert "step 2 of the chain" in failed["reason"]


async def test_chain_in_a_fallback_region_is_signed_for_that_region(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume
) -> None:
    async with (
        scripted(good_reply(date=DATE), Reply(raw=b"", reset=True)) as out,
        scripted(*GOOD) as answering,
        StsClient(out.url, region="eu-west-1") as home,
        StsClient(answering.url, region="eu-central-1") as fallback,
    ):
        out.replies = [out.replies[0], out.replies[1]] * MAX_OUTAGES
        pairs = [StsRegion("eu-west-1", home.exchange), StsRegion("eu-central-1", fallback.exchange)]
        regions = StsRegions(pairs, monotonic=wall.clock.monotonic, log=make_log([]), metrics=Metrics())
        async with serving(autojump_clock, wall, volume, regions.exchange, []) as daemon:
            await daemon.roles.first_credentials()
    assert len(out.requests) == 2 * MAX_OUTAGES
    scopes = [str(signed(request)[2]).partition("Credential=")[2].split("/")[2] for request in answering.requests[1:]]
    assert scopes == ["eu-central-1", "eu-central-1"]
