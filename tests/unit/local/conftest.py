"""Provide signing keys, an issuer, an account and an STS, without sockets."""

import json
from typing import Any
from urllib.parse import urlencode

import botocore.parsers
import jwt
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.clock import Clock
from sidecar.local.issuer import Issuer, generate_key
from sidecar.local.roles import IamRole
from sidecar.local.service_account import PodIdentity, TokenRequest
from sidecar.local.signing_keys import KeySet, signing_key
from sidecar.local.sts import Account, Sts
from sidecar.local.trust_policy import default_policy, parse_policy
from sidecar.oidc.verification import Jwk, Provider
from sidecar.serving.http_message import Request
from tests.support.fakes.clock import EPOCH

ISSUER = "http://issuer.test:8080"
KEY = "issuer.test:8080"
ACCOUNT = "111122223333"
APP = f"arn:aws:iam::{ACCOUNT}:role/team/app"
NEXT = f"arn:aws:iam::{ACCOUNT}:role/next"
LAST = f"arn:aws:iam::{ACCOUNT}:role/last"
POD = PodIdentity("default", "app", "app-0", "local")
AUDIENCE = "sts.amazonaws.com"

_MODEL = ServiceModel(Loader().load_service_model("sts", "service-2"), "sts")
_PARSER = botocore.parsers.create_parser("query")


@pytest.fixture(scope="session")
def private_keys() -> list[RSAPrivateKey]:
    return [generate_key() for _ in range(3)]


class StillClock:
    """A clock that shows EPOCH until `step` changes it."""

    def __init__(self) -> None:
        self._now = EPOCH

    def step(self, seconds: float) -> None:
        self._now += seconds

    def time(self) -> float:
        return self._now

    @property
    def clock(self) -> Clock:
        return Clock(self.time, self.time)


class PublishedKeys:
    """A key source that returns the issuer's current keys."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def keys_for(self, _kid: str | None, /) -> list[Jwk]:
        return list(self._issuer.keys.jwks()["keys"])


class World:
    """
    An issuer, an account and an STS with the same clock.

    The role `next` trusts sessions of `app` with an external id. The role `last` trusts all sessions of the account.
    """

    def __init__(self, wall: StillClock, private_key: RSAPrivateKey) -> None:
        self.wall = wall
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.issuer = Issuer(ISSUER, KeySet((signing_key(private_key),)), clock=wall.clock)
        provider = Provider(ISSUER, (AUDIENCE,), ACCOUNT)
        self.roles = {APP: self._app(provider), NEXT: self._next(), LAST: self._last()}
        self.account = Account("us-east-1", self.roles, {ISSUER: provider}, {ISSUER: PublishedKeys(self.issuer)})
        self.sts = Sts(self.account, clock=wall.clock, emit=self.emit)

    def emit(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    def token(self, **changes: Any) -> str:
        """Return a service account token with these changes of its claims. The value None removes a claim."""
        if not changes:
            return self.issuer.issue(POD, TokenRequest(AUDIENCE, 600)).raw
        now = int(self.wall.time())
        claims = {"iss": ISSUER, "sub": POD.subject, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + 600}
        kept = {name: value for name, value in (claims | changes).items() if value is not None}
        key = self.issuer.keys.active
        payload = json.dumps(kept).encode()
        return jwt.PyJWS().encode(payload, key.private_key, algorithm="RS256", headers={"kid": key.kid})

    async def call(self, operation: str = "AssumeRoleWithWebIdentity", **form: Any) -> dict[str, Any]:
        """
        Call STS, and return the response as botocore reads it.

        The default parameters form a valid exchange. The value None removes a parameter.
        """
        exchange = {"RoleArn": APP, "RoleSessionName": "app-0", "WebIdentityToken": self.token()}
        filled = {"Action": operation, "Version": "2011-06-15", **exchange, **form}
        body = urlencode({name: value for name, value in filled.items() if value is not None}).encode()
        return await self.send(Request("POST", "/", (("host", "sts.test"),), body), operation)

    async def send(self, request: Request, operation: str = "GetCallerIdentity") -> dict[str, Any]:
        response = await self.sts.respond(request)
        http = {"status_code": response.status, "headers": dict(response.headers), "body": response.body}
        shape = _MODEL.operation_model(operation).output_shape
        assert shape is not None
        return dict(_PARSER.parse(http, shape))

    async def rejection(self, operation: str = "AssumeRoleWithWebIdentity", **form: Any) -> tuple[int, str, str]:
        """Return the status, code and message of the error response."""
        return rejection_of(await self.call(operation, **form))

    @property
    def reason(self) -> str:
        """Return the reason in the last event."""
        return str(self.events[-1][1]["reason"])

    @staticmethod
    def _app(provider: Provider) -> IamRole:
        document = default_policy(provider.arn, provider.key, subject=POD.subject, audience=AUDIENCE)
        return IamRole(APP, parse_policy(document, "app"), 43_200)

    @staticmethod
    def _next() -> IamRole:
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": APP},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {"StringEquals": {"sts:ExternalId": "secret-handshake"}},
        }
        return IamRole(NEXT, parse_policy({"Version": "2012-10-17", "Statement": statement}, "next"), 43_200)

    @staticmethod
    def _last() -> IamRole:
        statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        return IamRole(LAST, parse_policy({"Version": "2012-10-17", "Statement": statement}, "last"))


def rejection_of(response: dict[str, Any]) -> tuple[int, str, str]:
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


@pytest.fixture
def world(private_keys: list[RSAPrivateKey]) -> World:
    return World(StillClock(), private_keys[0])
