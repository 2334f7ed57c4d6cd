"""
Serve an STS that returns a session for any token, with any lifetime, and accepts calls only from valid sessions.

Each call must be signed with a session of this STS. Signatures are checked as in `irsa-sidecar local`.
"""

import secrets
import time
import uuid
from datetime import UTC, datetime
from email.utils import formatdate

import trio

from sidecar.clock import instant_text
from sidecar.local import sigv4, sts_xml
from sidecar.local.operations import caller_identity
from sidecar.local.parameters import parse_form
from sidecar.local.roles import IamRole
from sidecar.local.services import HTTP_LIMITS
from sidecar.local.session_size import PLAIN_TOKEN_BYTES
from sidecar.local.sessions import Session, SessionTable, new_session
from sidecar.local.sts_xml import Tree
from sidecar.local.trust_policy import TrustPolicy
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.serving.http_message import Request, Response
from sidecar.serving.http_server import Server
from sidecar.serving.listen import listen

REGION = "us-east-1"


class StrictSts:
    """
    An STS with sessions of `life_seconds`.

    The STS waits until `may_respond` is set, and returns `rejection` if `rejection` is set.

    Session tokens have `session_token_bytes`. `tokens` has the web identity token of each exchange, `sessions` has all
    sessions, and `callers` has the session of each accepted call. `faults` has errors in the code of this class, which
    fail the test.
    """

    def __init__(self) -> None:
        self.life_seconds = 3600
        self.session_token_bytes = PLAIN_TOKEN_BYTES
        self.rejection: StsRejection | None = None
        self.may_respond = trio.Event()
        self.may_respond.set()
        self.tokens: list[str] = []
        self.sessions: list[Session] = []
        self.callers: list[Session] = []
        self.url = ""
        self._sessions = SessionTable()
        self.faults: list[Exception] = []

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listeners = listen("--listen", ("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
        task_status.started()
        await Server(self._answer, self.faults.append, limits=HTTP_LIMITS).serve(listeners)

    def session_of(self, access_key_id: str | None) -> Session | None:
        return self._sessions.get(access_key_id or "")

    async def _answer(self, request: Request) -> Response:
        form = parse_form(request.query) | parse_form(request.body.decode())
        operation = form["Action"]
        request_id = str(uuid.uuid4())
        try:
            if operation == "GetCallerIdentity":
                members = self._identity(request)
            else:
                members = await self._grant(form)
        except StsRejection as rejection:
            return _reply(rejection.status, sts_xml.error(rejection.code, str(rejection), request_id))
        return _reply(200, sts_xml.result(operation, members, request_id))

    def _identity(self, request: Request) -> Tree:
        caller = sigv4.verify(request, self._sessions.get, region=REGION, now=datetime.now(UTC))
        self.callers.append(caller)
        return caller_identity(caller)

    async def _grant(self, form: dict[str, str]) -> Tree:
        self.tokens.append(form["WebIdentityToken"])
        await self.may_respond.wait()
        if self.rejection is not None:
            raise self.rejection
        role = IamRole(form["RoleArn"], TrustPolicy(()))
        name, seconds = form["RoleSessionName"], self.life_seconds
        session = new_session(
            role,
            name,
            now=time.time(),
            seconds=seconds,
            random_bytes=secrets.token_bytes,
            token_characters=self.session_token_bytes,
        )
        self._sessions.add(session)
        self.sessions.append(session)
        return {
            "Credentials": {
                "AccessKeyId": session.access_key_id,
                "SecretAccessKey": session.secret_access_key,
                "SessionToken": session.session_token,
                "Expiration": instant_text(session.expires_at),
            },
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
        }


def _reply(status: int, body: bytes) -> Response:
    return Response(status, body, sts_xml.CONTENT_TYPE, (("Date", formatdate(usegmt=True)),))
