"""
The daemon's client and a strict STS on a clock of its own: every signature is checked as AWS checks it.

This machine's clock is months from STS's, so each of these chains also shows that it does not matter.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio

from sidecar.errors import ExchangeError, NextStep
from sidecar.exchange import explained
from sidecar.local import http
from sidecar.local.http import Reply, Request
from sidecar.role import ChainStep
from sidecar.sts_client import ExchangeReply, ExchangeRequest, StsClient
from sidecar.token import decode_token
from tests.local.conftest import APP, LAST, NEXT, World

pytestmark = pytest.mark.usefixtures("no_proxies")

AGREED = "secret-handshake"
TO_NEXT, TO_LAST = ChainStep(NEXT, "hop", external_id=AGREED), ChainStep(LAST, "jump")

Answer = Callable[[Request], Awaitable[Reply]]


def raise_it(exc: Exception) -> None:
    raise exc


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(http.serve, listener, answer, report=raise_it))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def outcome(
    world: World, *steps: ChainStep, answer: Answer | None = None, region: str = "us-east-1"
) -> ExchangeReply | ExchangeError:
    token = decode_token(world.token().encode(), "/token")
    async with listening(answer or world.sts.answer) as url, StsClient(url, region=region) as client:
        try:
            return await client.exchange(ExchangeRequest(APP, "app-0", 3600, chain=steps), token)
        except ExchangeError as error:
            return error


async def chained(world: World, *steps: ChainStep) -> ExchangeReply:
    reply = await outcome(world, *steps)
    assert isinstance(reply, ExchangeReply)
    return reply


async def refused(
    world: World, *steps: ChainStep, answer: Answer | None = None, region: str = "us-east-1"
) -> ExchangeError:
    error = await outcome(world, *steps, answer=answer, region=region)
    assert isinstance(error, ExchangeError)
    return error


async def test_a_chain_ends_as_its_last_role_though_this_machines_clock_is_months_off(world: World) -> None:
    reply = await chained(world, TO_NEXT, TO_LAST)
    assert reply.credentials.role_arn == LAST
    event, told = world.told[-1]
    assert event == "role_assumed"
    assert told["arn"] == "arn:aws:sts::111122223333:assumed-role/last/jump"
    assert told["caller"] == "arn:aws:sts::111122223333:assumed-role/next/hop"
    assert told["access_key_id"] == reply.credentials.access_key_id


async def test_tags_policies_and_a_source_identity_are_taken(world: World) -> None:
    step = TO_NEXT._replace(
        tags=(("Größe", "XL + more"), ("team", "")),
        transitive_tags=("team",),
        source_identity="alice",
        policy='{"Version":"2012-10-17","Statement":[]}',
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        duration_seconds=900,
    )
    reply = await chained(world, step)
    assert reply.credentials.expires_at.timestamp() == world.wall.time() + 900


# What an AWS that is asked wrongly says, and what we make of it


def without_date(world: World) -> Answer:
    async def answer(request: Request) -> Reply:
        reply = await world.sts.answer(request)
        return replace(reply, headers=tuple(pair for pair in reply.headers if pair[0] != "Date"))

    return answer


def changed_on_its_way(world: World) -> Answer:
    async def answer(request: Request) -> Reply:
        return await world.sts.answer(replace(request, body=request.body + b"&SourceIdentity=eve"))

    return answer


def unsigned_on_its_way(world: World) -> Answer:
    async def answer(request: Request) -> Reply:
        kept = tuple(pair for pair in request.headers if pair[0] != "authorization")
        return await world.sts.answer(replace(request, headers=kept))

    return answer


def forgetting(world: World) -> Answer:
    async def answer(request: Request) -> Reply:
        if b"Action=AssumeRole&" in request.body:
            world.sts._sessions._sessions.clear()
        return await world.sts.answer(request)

    return answer


def two_hours_later(world: World) -> Answer:
    async def answer(request: Request) -> Reply:
        if b"Action=AssumeRole&" in request.body:
            world.wall.step(7200)
        return await world.sts.answer(request)

    return answer


@pytest.mark.parametrize(
    ("make_answer", "code", "text", "next_step", "advice"),
    [
        (without_date, "SignatureDoesNotMatch", "Signature expired", NextStep.RETRY, "set this machine's clock"),
        (changed_on_its_way, "SignatureDoesNotMatch", "we calculated", NextStep.WAIT, "HTTPS_PROXY"),
        (unsigned_on_its_way, "MissingAuthenticationToken", "missing", NextStep.WAIT, "HTTPS_PROXY"),
        (forgetting, "InvalidClientTokenId", "token included in the request is invalid", NextStep.RETRY, "just given"),
        (two_hours_later, "ExpiredToken", "token included in the request is expired", NextStep.RETRY, "just given"),
    ],
)
async def test_a_signature_that_is_refused_says_what_to_look_at(
    world: World, make_answer: Callable[[World], Answer], *, code: str, text: str, next_step: NextStep, advice: str
) -> None:
    error = await refused(world, TO_NEXT, answer=make_answer(world))
    assert (error.code, error.next_step, error.step) == (code, next_step, 1)
    assert text in error.message
    assert advice in explained(error)


async def test_a_region_that_is_not_the_endpoints_is_for_the_operator(world: World) -> None:
    error = await refused(world, TO_NEXT, region="eu-west-1")
    assert (error.code, error.next_step) == ("SignatureDoesNotMatch", NextStep.ASK_OPERATOR)
    assert "set AWS_REGION" in explained(error)


@pytest.mark.parametrize(
    ("steps", "code", "advice"),
    [
        ([TO_NEXT._replace(external_id="guess")], "AccessDenied", "match the external id"),
        ([TO_NEXT._replace(external_id=None)], "AccessDenied", "must name the role before it"),
        ([TO_NEXT, TO_NEXT], "AccessDenied", "must be allowed sts:AssumeRole"),
        ([TO_LAST._replace(tags=(("team", "data"),))], "AccessDenied", "Tags need sts:TagSession"),
        ([TO_LAST._replace(source_identity="alice")], "AccessDenied", "sts:SetSourceIdentity"),
        ([TO_LAST._replace(session_name="a b")], "ValidationError", "IRSA_SIDECAR_CONFIG"),
        ([TO_LAST._replace(policy="{")], "MalformedPolicyDocument", "session policy"),
        (
            [TO_LAST._replace(policy_arns=("arn:aws:iam::aws:policy/" + "x" * 900,) * 3)],
            "PackedPolicyTooLarge",
            "transitive tags",
        ),
    ],
)
async def test_a_step_that_is_refused_says_what_to_change(
    world: World, steps: list[ChainStep], code: str, advice: str
) -> None:
    error = await refused(world, *steps)
    assert (error.code, error.step) == (code, len(steps))
    assert f"step {len(steps)} of the chain, {steps[-1].role_arn}: " in str(error)
    assert advice in explained(error)
