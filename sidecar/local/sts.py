"""
AWS STS for one account and region: AssumeRoleWithWebIdentity, AssumeRole and GetCallerIdentity, by POST or GET.

It answers as AWS does, refusals included, and takes nothing on trust: a web identity token is verified with its
issuer's published keys, a signed request with the secret that was given out, and a role is given only to whom its
trust policy names. What a caller is not told goes to `tell`.
"""

import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

from sidecar.clock import Clock
from sidecar.local import sigv4, sts_xml
from sidecar.local.events import Tell
from sidecar.local.operations import Grant, assume_role, assume_role_with_web_identity, caller_identity
from sidecar.local.parameters import load_shapes, operation_name, parse_form, read_parameters
from sidecar.local.provider_keys import KeySource
from sidecar.local.roles import Role
from sidecar.local.sessions import RandomBytes, Session, SessionTable
from sidecar.local.sts_xml import Tree
from sidecar.oidc import verification as web_identity
from sidecar.oidc.sts_refusal import StsRefusal
from sidecar.serving.h11_server import Request, Response

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """What STS knows: the roles by ARN, the OIDC providers by issuer, and where their keys are, by issuer too."""

    region: str
    roles: Mapping[str, Role]
    providers: Mapping[str, web_identity.Provider]
    key_sources: Mapping[str, KeySource]


class Sts:
    """One STS. `answer` is its HTTP face."""

    def __init__(
        self, account: Account, *, clock: Clock, tell: Tell, random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self.account = account
        self._clock = clock
        self._tell = tell
        self._random_bytes = random_bytes
        self._sessions = SessionTable()
        self._shapes = load_shapes()
        self._operations: Mapping[str, Callable[[Request, Form], Awaitable[Tree]]] = {
            "AssumeRoleWithWebIdentity": self._assume_role_with_web_identity,
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
        }

    async def answer(self, request: Request) -> Response:
        """The reply to any request: a result, or one of AWS's errors."""
        request_id = str(uuid.uuid4())
        form = _form(request)
        try:
            operation = operation_name(form)
            members = await self._operations[operation](request, form)
            return self._reply(200, sts_xml.result(operation, members, request_id), request_id)
        except StsRefusal as refusal:
            self._tell_refusal(form, refusal)
            return self._reply(refusal.status, sts_xml.error(refusal.code, str(refusal), request_id), request_id)

    async def _assume_role_with_web_identity(self, _request: Request, form: Form) -> Tree:
        parameters = read_parameters(self._shapes["AssumeRoleWithWebIdentity"], form)
        token = web_identity.parse_token(parameters["WebIdentityToken"])
        provider = web_identity.find_provider(token, self.account.providers)
        keys = await self.account.key_sources[provider.issuer].keys_for(token.kid)
        now = self._clock.wall()
        identity = web_identity.verify_token(token, provider, keys, now)
        roles, random_bytes = self.account.roles, self._random_bytes
        grant = assume_role_with_web_identity(parameters, identity, roles, now=now, random_bytes=random_bytes)
        return self._give("exchange_granted", grant, subject=identity.subject, audience=identity.audience)

    async def _assume_role(self, request: Request, form: Form) -> Tree:
        caller = self._signer(request)
        parameters = read_parameters(self._shapes["AssumeRole"], form)
        roles, random_bytes = self.account.roles, self._random_bytes
        grant = assume_role(parameters, caller, roles, now=self._clock.wall(), random_bytes=random_bytes)
        return self._give("role_assumed", grant, caller=caller.arn)

    async def _get_caller_identity(self, request: Request, _form: Form) -> Tree:
        caller = self._signer(request)
        self._tell("caller_identity_returned", arn=caller.arn)
        return caller_identity(caller)

    def _signer(self, request: Request) -> Session:
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        return sigv4.verify(request, self._sessions.get, region=self.account.region, now=now)

    def _give(self, event: str, grant: Grant, **fields: str) -> Tree:
        session = grant.session
        self._sessions.add(session)
        self._tell(event, arn=session.arn, access_key_id=session.access_key_id, expires_at=session.expires_at, **fields)
        return grant.members

    def _tell_refusal(self, form: Form, refusal: StsRefusal) -> None:
        self._tell(
            "request_rejected",
            operation=form.get("Action"),
            role_arn=form.get("RoleArn"),
            code=refusal.code,
            message=str(refusal),
            reason=refusal.why,
        )

    def _reply(self, status: int, body: bytes, request_id: str) -> Response:
        date = formatdate(self._clock.wall(), usegmt=True)
        headers = (("x-amzn-RequestId", request_id), ("Date", date))
        return Response(status, body, sts_xml.CONTENT_TYPE, headers)


def _form(request: Request) -> dict[str, str]:
    """The query and the body together: botocore presigns a POST with everything in its query and no body."""
    return parse_form(request.query) | parse_form(request.body.decode("utf-8", "replace"))
