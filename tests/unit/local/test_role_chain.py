"""
Test role chains with the daemon's client and an STS that verifies each signature as AWS does.

STS's clock differs from this machine's clock by months. Each chain also shows that this difference does not matter.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.errors import ExchangeError, NextStep
from sidecar.local.trust_policy import parse_policy
from sidecar.role import ChainStep
from sidecar.serving.http_message import Request, Response
from sidecar.sts.client import ExchangeResult, StsClient
from sidecar.sts.errors import explained
from sidecar.sts.request import ExchangeRequest
from sidecar.token import decode_token
from tests.support.served_peer import serving
from tests.unit.local.conftest import APP, LAST, NEXT, World

pytestmark = pytest.mark.usefixtures("no_proxies")

EXTERNAL_ID = "secret-handshake"
TO_NEXT, TO_LAST = ChainStep(NEXT, "hop", external_id=EXTERNAL_ID), ChainStep(LAST, "jump")

Handler = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    async with serving(handler) as url:
        yield f"{url}/"


async def outcome(
    world: World, *steps: ChainStep, handler: Handler | None = None, region: str = "us-east-1"
) -> ExchangeResult | ExchangeError:
    token = decode_token(world.token().encode(), "/token")
    async with listening(handler or world.sts.respond) as url, StsClient(url, region=region) as client:
        try:
            return await client.exchange(ExchangeRequest(APP, "app-0", 3600, chain=steps), token)
        except ExchangeError as error:
            return error


async def chained(world: World, *steps: ChainStep) -> ExchangeResult:
    response = await outcome(world, *steps)
    assert isinstance(response, ExchangeResult)
    return response


async def rejected(
    world: World, *steps: ChainStep, handler: Handler | None = None, region: str = "us-east-1"
) -> ExchangeError:
    error = await outcome(world, *steps, handler=handler, region=region)
    assert isinstance(error, ExchangeError)
    return error


async def test_chain_returns_the_credentials_of_its_last_role(world: World) -> None:
    response = await chained(world, TO_NEXT, TO_LAST)
    assert response.credentials.role_arn == LAST
    event, fields = world.events[-1]
    assert event == "role_assumed"
    assert fields["arn"] == "arn:aws:sts::111122223333:assumed-role/last/jump"
    assert fields["caller"] == "arn:aws:sts::111122223333:assumed-role/next/hop"
    assert fields["access_key_id"] == fields["exchange"].access_key_id == response.credentials.access_key_id
    assert fields["exchange"].claims is None


async def test_chain_step_accepts_tags_policies_and_source_identity(world: World) -> None:
    step = TO_NEXT._replace(
        tags=(("Größe", "XL + more"), ("team", "")),
        transitive_tags=("team",),
        source_identity="alice",
        policy='{"Version":"2012-10-17","Statement":[]}',
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        duration_seconds=900,
    )
    response = await chained(world, step)
    assert response.credentials.expires_at.timestamp() == world.wall.time() + 900


# Session policies and tags of the calling session

POLICY = '{"Version":"2012-10-17","Statement":%s}'
ALLOW_ALL = '{"Effect":"Allow","Action":"*","Resource":"*"}'
DENIED = "with an explicit deny in a session policy"
NOT_ALLOWED = "because no session policy allows the sts:AssumeRole action"


@pytest.mark.parametrize(
    ("statements", "ending"),
    [
        (f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"sts:*","Resource":"*"}}]', DENIED),
        (f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"STS:assume*","Resource":"arn:aws:iam::*:role/last"}}]', DENIED),
        (f'[{ALLOW_ALL},{{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}}]', DENIED),
        (f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"*","NotResource":"arn:aws:iam::*:role/next"}}]', DENIED),
        (
            f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"Bool":{{"x:y":"true"}}}}}}]',
            DENIED,
        ),
        (f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"*","Resource":"arn:aws:iam::${{aws:x}}:role/*"}}]', DENIED),
        ("[]", NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"s3:*","Resource":"*"}', NOT_ALLOWED),
        ('{"Effect":"Allow","NotAction":["s3:*","sts:AssumeRole"],"Resource":"*"}', NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::111122223333:role/other"}', NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::*:role/Last"}', NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"*","NotResource":"arn:aws:iam::*:role/l?st"}', NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:x":"y"}}}', NOT_ALLOWED),
        ('{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::${aws:x}:role/*"}', NOT_ALLOWED),
    ],
)
async def test_session_policy_restricts_the_next_step(world: World, statements: str, ending: str) -> None:
    error = await rejected(world, TO_NEXT._replace(policy=POLICY % statements), TO_LAST)
    assert (error.code, error.step) == ("AccessDenied", 2)
    user = "arn:aws:sts::111122223333:assumed-role/next/hop"
    assert error.message.startswith(
        f"step 2 of the chain, {LAST}: User: {user} is not authorized to perform: sts:AssumeRole on resource: "
        f"{LAST} {ending}"
    )


@pytest.mark.parametrize(
    "statements",
    [
        ALLOW_ALL,
        '{"Effect":"Allow","Action":"sts:*","Resource":"arn:aws:iam::111122223333:role/last"}',
        '{"Effect":"Allow","Action":["s3:*","STS:ASSUMEROLE"],"Resource":["arn:aws:s3:::*","arn:aws:iam::*:role/l?st"]}',
        '{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:iam::*:role/admin"}',
        f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"s3:*","Resource":"*"}}]',
        f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"*","Resource":"arn:aws:iam::*:role/admin"}}]',
        f'[{ALLOW_ALL},{{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{{"Bool":{{"x:y":"true"}}}}}}]',
    ],
)
async def test_session_policy_can_allow_the_next_step(world: World, statements: str) -> None:
    response = await chained(world, TO_NEXT._replace(policy=POLICY % statements), TO_LAST)
    assert response.credentials.role_arn == LAST


@pytest.mark.parametrize(
    ("arns", "policy", "is_allowed"),
    [
        (("arn:aws:iam::aws:policy/AdministratorAccess",), None, True),
        (("arn:aws:iam::aws:policy/ReadOnlyAccess",), None, False),
        (("arn:aws:iam::aws:policy/ReadOnlyAccess",), POLICY % ALLOW_ALL, True),
        (("arn:aws:iam::111122223333:policy/own",), POLICY % ALLOW_ALL, False),
        (("arn:aws:iam::111122223333:policy/AdministratorAccess",), None, False),
        (
            ("arn:aws:iam::aws:policy/AdministratorAccess",),
            POLICY % '{"Effect":"Deny","Action":"*","Resource":"*"}',
            False,
        ),
    ],
)
async def test_managed_policy_with_unknown_content_allows_nothing(
    world: World, arns: tuple[str, ...], policy: str | None, *, is_allowed: bool
) -> None:
    found = await outcome(world, TO_NEXT._replace(policy_arns=arns, policy=policy), TO_LAST)
    assert isinstance(found, ExchangeResult) is is_allowed


async def test_session_policy_restricts_only_its_own_session(world: World) -> None:
    """The next session in the chain has its own session policy, or none."""
    world.roles[LAST] = replace(world.roles[LAST], trust_policy=ANYBODY)
    narrow = TO_NEXT._replace(policy=POLICY % '{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}')
    response = await chained(world, narrow, TO_LAST, TO_LAST._replace(session_name="again", tags=(("a", "b"),)))
    assert response.credentials.role_arn == LAST


@pytest.mark.parametrize("action", ["sts:TagSession", "sts:SetSourceIdentity"])
async def test_session_policy_restricts_tags_and_source_identity(world: World, action: str) -> None:
    world.roles[LAST] = replace(world.roles[LAST], trust_policy=ANYBODY)
    assume_only = TO_NEXT._replace(policy=POLICY % '{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}')
    step = TO_LAST._replace(tags=(("a", "b"),)) if "Tag" in action else TO_LAST._replace(source_identity="alice")
    assert f"no session policy allows the {action} action" in (await rejected(world, assume_only, step)).message


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("{", "This policy contains invalid Json"),
        ('{"Statement":1}', "Syntax errors in policy."),
        ('{"Statement":[1]}', "Syntax errors in policy."),
        ('{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}', "Syntax errors in policy."),
        ('{"Statement":{"Effect":"Allow","Resource":"*"}}', "Policy statement must contain actions."),
        ('{"Statement":{"Effect":"Allow","Action":"*"}}', "Policy statement must contain resources."),
        ('{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}', "Syntax errors in policy."),
        ('{"Statement":{"Effect":"Allow","Action":"*","Resource":[]}}', "Syntax errors in policy."),
        (
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}',
            "should not specify a principal",
        ),
        ('{"Statement":{"Effect":"Allow","Action":"AssumeRole","Resource":"*"}}', "must be prefaced by a vendor"),
        ('{"Statement":{"Effect":"Allow","Action":"*","Resource":"role/x"}}', "must be in ARN format"),
        (
            '{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}',
            "Syntax errors in policy.",
        ),
    ],
)
async def test_malformed_session_policy_is_rejected(world: World, policy: str, message: str) -> None:
    error = await rejected(world, TO_NEXT._replace(policy=policy))
    assert error.code == "MalformedPolicyDocument"
    assert message in error.message


ANYBODY = parse_policy(
    {"Statement": {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:*"}}, "anybody"
)
TAGGED = TO_NEXT._replace(tags=(("Team", "data"), ("stage", "test")), transitive_tags=("team",))
CONFLICT = (
    "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the "
    "calling session."
)


@pytest.mark.parametrize("tag", [("Team", "other"), ("team", "data"), ("TEAM", "")])
async def test_inherited_transitive_tag_cannot_be_set_again(world: World, tag: tuple[str, str]) -> None:
    """The message was recorded from AWS. The key's case and the value do not matter."""
    world.roles[LAST] = replace(world.roles[LAST], trust_policy=ANYBODY)
    error = await rejected(world, TAGGED, TO_LAST._replace(tags=(tag,)))
    assert (error.code, error.status, error.step) == ("InvalidParameterValue", 400, 2)
    assert CONFLICT in error.message


async def test_transitive_tag_is_kept_through_the_chain(world: World) -> None:
    world.roles[LAST] = replace(world.roles[LAST], trust_policy=ANYBODY)
    again = TO_LAST._replace(session_name="again")
    error = await rejected(world, TAGGED, TO_LAST, again._replace(tags=(("team", "x"),)))
    assert (error.step, CONFLICT in error.message) == (3, True)
    response = await chained(world, TAGGED, TO_LAST._replace(tags=(("stage", "prod"),)), again)
    assert response.credentials.role_arn == LAST, "a tag that is not transitive may be set again"


async def test_inherited_tags_need_tag_session_in_the_next_role(world: World) -> None:
    error = await rejected(world, TAGGED, TO_LAST)
    assert error.code == "AccessDenied"
    assert f"is not authorized to perform: sts:TagSession on resource: {LAST}" in error.message


async def test_all_tags_count_in_the_size_of_the_session_token(world: World) -> None:
    world.roles[LAST] = replace(world.roles[LAST], trust_policy=ANYBODY)
    many = tuple((f"key-{number}", "v" * 250) for number in range(7))
    transitive = TO_NEXT._replace(tags=many, transitive_tags=tuple(key for key, _ in many))
    response = await chained(world, transitive, TO_LAST)
    assert len(response.credentials.session_token) == 600 + 7 * 255
    more = tuple((f"more-{number}", "v" * 250) for number in range(7))
    error = await rejected(world, transitive, TO_LAST._replace(tags=more))
    assert (error.code, error.step) == ("PackedPolicyTooLarge", 2)
    assert "exceeded the maximum allowed size of 4096 bytes: it has 4177 bytes" in error.message


# Error responses from AWS, and their fixes for the operator


def without_date(world: World) -> Handler:
    async def handle(request: Request) -> Response:
        response = await world.sts.respond(request)
        return replace(response, headers=tuple(pair for pair in response.headers if pair[0] != "Date"))

    return handle


def changed_in_transit(world: World) -> Handler:
    async def handle(request: Request) -> Response:
        return await world.sts.respond(replace(request, body=request.body + b"&SourceIdentity=eve"))

    return handle


def unsigned_in_transit(world: World) -> Handler:
    async def handle(request: Request) -> Response:
        kept = tuple(pair for pair in request.headers if pair[0] != "authorization")
        return await world.sts.respond(replace(request, headers=kept))

    return handle


def forgetting(world: World) -> Handler:
    async def handle(request: Request) -> Response:
        if b"Action=AssumeRole&" in request.body:
            world.sts._sessions._sessions.clear()
        return await world.sts.respond(request)

    return handle


def two_hours_later(world: World) -> Handler:
    async def handle(request: Request) -> Response:
        if b"Action=AssumeRole&" in request.body:
            world.wall.step(7200)
        return await world.sts.respond(request)

    return handle


@pytest.mark.parametrize(
    ("make_handler", "code", "text", "next_step", "advice"),
    [
        (without_date, "SignatureDoesNotMatch", "Signature expired", NextStep.RETRY, "set this machine's clock"),
        (changed_in_transit, "SignatureDoesNotMatch", "we calculated", NextStep.WAIT, "HTTPS_PROXY"),
        (unsigned_in_transit, "MissingAuthenticationToken", "missing", NextStep.WAIT, "HTTPS_PROXY"),
        (
            forgetting,
            "InvalidClientTokenId",
            "token included in the request is invalid",
            NextStep.RETRY,
            "just returned",
        ),
        (two_hours_later, "ExpiredToken", "token included in the request is expired", NextStep.RETRY, "just returned"),
    ],
)
async def test_error_about_a_rejected_signature_has_a_fix(
    world: World, make_handler: Callable[[World], Handler], *, code: str, text: str, next_step: NextStep, advice: str
) -> None:
    error = await rejected(world, TO_NEXT, handler=make_handler(world))
    assert (error.code, error.next_step, error.step) == (code, next_step, 1)
    assert text in error.message
    assert advice in explained(error)


async def test_wrong_region_is_an_error_for_the_operator(world: World) -> None:
    error = await rejected(world, TO_NEXT, region="eu-west-1")
    assert (error.code, error.next_step) == ("SignatureDoesNotMatch", NextStep.ASK_OPERATOR)
    assert "set AWS_REGION" in explained(error)


@pytest.mark.parametrize(
    ("steps", "code", "advice"),
    [
        ([TO_NEXT._replace(external_id="guess")], "AccessDenied", "must match, such as the external id"),
        ([TO_NEXT._replace(external_id=None)], "AccessDenied", "must name the role before it"),
        ([TO_NEXT, TO_NEXT], "AccessDenied", "needs the permission sts:AssumeRole"),
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
async def test_error_about_a_rejected_step_has_a_fix(
    world: World, steps: list[ChainStep], code: str, advice: str
) -> None:
    error = await rejected(world, *steps)
    assert (error.code, error.step) == (code, len(steps))
    assert f"step {len(steps)} of the chain, {steps[-1].role_arn}: " in str(error)
    assert advice in explained(error)
