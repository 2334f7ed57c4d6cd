"""
Serve AWS STS for one account and region: AssumeRoleWithWebIdentity, AssumeRole and GetCallerIdentity.

Rule: responses and errors are AWS's, and every request, by POST or GET, is verified. STS verifies a web identity token
with its issuer's published keys, and a signed request with its session's secret. A trust policy must allow each session
of a role. Details that callers must not see go to `emit`.
"""

import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import trio

from sidecar.clock import Clock
from sidecar.local import sigv4, sts_xml
from sidecar.local.events import Emit
from sidecar.local.exchange import granted, rejected
from sidecar.local.operations import SessionResult, assume_role, assume_role_with_web_identity, caller_identity
from sidecar.local.parameters import load_shapes, operation_name, parse_form, read_parameters
from sidecar.local.provider_keys import KeySource
from sidecar.local.roles import IamRole
from sidecar.local.sessions import RandomBytes, Session, SessionTable
from sidecar.local.sts_xml import Tree
from sidecar.oidc import verification as web_identity
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.serving.http_message import Request, Response

Form = Mapping[str, str]
Outage = Callable[[], StsRejection | None]
"""The type of a function that returns the error for a request, or None if STS sends no response."""


@dataclass(frozen=True, slots=True)
class Account:
    """The AWS account of STS: its roles by ARN, and its OIDC providers and their key sources by issuer."""

    region: str
    roles: Mapping[str, IamRole]
    providers: Mapping[str, web_identity.Provider]
    key_sources: Mapping[str, KeySource]


class Sts:
    """The STS for one account and region. `respond` handles its HTTP requests."""

    def __init__(
        self, account: Account, *, clock: Clock, emit: Emit, random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self.account = account
        self._clock = clock
        self._emit = emit
        self._outage: Outage | None = None
        self._outage_changed = trio.Event()
        self._random_bytes = random_bytes
        self._sessions = SessionTable()
        self._shapes = load_shapes()
        self._operations: Mapping[str, Callable[[Request, Form], Awaitable[Tree]]] = {
            "AssumeRoleWithWebIdentity": self._assume_role_with_web_identity,
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
        }

    async def respond(self, request: Request) -> Response:
        """Return the response to any request: a result, or one of AWS's errors."""
        request_id = str(uuid.uuid4())
        form = _form(request)
        try:
            await self._pass_outage(form)
            operation = operation_name(form)
            members = await self._operations[operation](request, form)
            return self._response(200, sts_xml.result(operation, members, request_id), request_id)
        except StsRejection as rejection:
            self._emit_rejection(form, rejection)
            is_ours = rejection.status >= 500
            body = sts_xml.error(rejection.code, str(rejection), request_id, is_ours=is_ours)
            return self._response(rejection.status, body, request_id)

    def set_outage(self, outage: Outage | None) -> None:
        """Begin an outage of every request, or end it with None. Requests that wait for a response continue."""
        self._outage = outage
        self._outage_changed.set()
        self._outage_changed = trio.Event()

    async def _pass_outage(self, form: Form) -> None:
        """
        Wait while STS sends no response. The client, or the server's deadline, may end the connection earlier.

        Raises StsRejection while STS is out of service.
        """
        while self._outage is not None:
            rejection = self._outage()
            if rejection is not None:
                raise rejection
            self._emit("request_unanswered", operation=form.get("Action"), role_arn=form.get("RoleArn"))
            await self._outage_changed.wait()

    async def _assume_role_with_web_identity(self, _request: Request, form: Form) -> Tree:
        parameters = read_parameters(self._shapes["AssumeRoleWithWebIdentity"], form)
        token = web_identity.parse_token(parameters["WebIdentityToken"])
        provider = web_identity.find_provider(token, self.account.providers)
        keys = await self.account.key_sources[provider.issuer].keys_for(token.kid)
        now = self._clock.wall()
        identity = web_identity.verify_token(token, provider, keys, now)
        roles, random_bytes = self.account.roles, self._random_bytes
        result = assume_role_with_web_identity(parameters, identity, roles, now=now, random_bytes=random_bytes)
        facts = {"subject": identity.subject, "audience": identity.audience}
        return self._add_session("exchange_granted", result, exchange=granted(result, token.raw), **facts)

    async def _assume_role(self, request: Request, form: Form) -> Tree:
        caller = self._signer(request)
        parameters = read_parameters(self._shapes["AssumeRole"], form)
        roles, random_bytes = self.account.roles, self._random_bytes
        result = assume_role(parameters, caller, roles, now=self._clock.wall(), random_bytes=random_bytes)
        return self._add_session("role_assumed", result, exchange=granted(result, None), caller=caller.arn)

    async def _get_caller_identity(self, request: Request, _form: Form) -> Tree:
        caller = self._signer(request)
        self._emit("caller_identity_returned", arn=caller.arn)
        return caller_identity(caller)

    def _signer(self, request: Request) -> Session:
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        return sigv4.verify(request, self._sessions.get, region=self.account.region, now=now)

    def _add_session(self, event: str, result: SessionResult, **fields: Any) -> Tree:
        session = result.session
        self._sessions.add(session)
        self._emit(event, arn=session.arn, access_key_id=session.access_key_id, expires_at=session.expires_at, **fields)
        return result.members

    def _emit_rejection(self, form: Form, rejection: StsRejection) -> None:
        self._emit(
            "request_rejected",
            operation=form.get("Action"),
            role_arn=form.get("RoleArn"),
            code=rejection.code,
            message=str(rejection),
            reason=rejection.reason,
            exchange=rejected(rejection, form.get("RoleArn"), form.get("WebIdentityToken")),
        )

    def _response(self, status: int, body: bytes, request_id: str) -> Response:
        date = formatdate(self._clock.wall(), usegmt=True)
        headers = (("x-amzn-RequestId", request_id), ("Date", date))
        return Response(status, body, sts_xml.CONTENT_TYPE, headers)


def _form(request: Request) -> dict[str, str]:
    """Return the parameters in the query and the body. botocore presigns a POST with all parameters in the query."""
    return parse_form(request.query) | parse_form(request.body.decode("utf-8", "replace"))
