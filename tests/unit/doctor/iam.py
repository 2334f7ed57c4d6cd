"""Serve a fake IAM that answers GetRole and GetOpenIDConnectProvider as AWS does."""

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from sidecar.serving.http_message import Request, Response
from tests.support.served_peer import serving_peer

_ROLE = """\
<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role><Path>/</Path>\
<Arn>arn:aws:iam::111122223333:role/{name}</Arn><RoleName>{name}</RoleName><RoleId>AROA</RoleId>\
<AssumeRolePolicyDocument>{policy}</AssumeRolePolicyDocument><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
<MaxSessionDuration>{seconds}</MaxSessionDuration></Role></GetRoleResult></GetRoleResponse>"""

_PROVIDER = """\
<GetOpenIDConnectProviderResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">\
<GetOpenIDConnectProviderResult><ClientIDList>{ids}</ClientIDList></GetOpenIDConnectProviderResult>\
</GetOpenIDConnectProviderResponse>"""

_ERROR = """\
<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>{code}</Code>\
<Message>{message}</Message></Error></ErrorResponse>"""


@dataclass
class Iam:
    """A fake IAM, with trust policies by role name and client IDs by provider. If `denies` is set, all calls fail."""

    url: str = ""
    roles: dict[str, Any] = field(default_factory=dict)
    client_ids: dict[str, list[str]] = field(default_factory=dict)
    max_session_seconds: int = 3600
    denies: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)

    async def respond(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode()))
        signer = (request.header("authorization") or "").partition("Credential=")[2].partition("/")[0]
        self.calls.append((form["Action"], signer))
        if self.denies:
            return _error(403, "AccessDenied", f"not authorized to perform: iam:{form['Action']}")
        if form["Action"] == "GetRole":
            return self._role(form["RoleName"])
        return self._provider(form["OpenIDConnectProviderArn"])

    def _role(self, name: str) -> Response:
        if name not in self.roles:
            return _error(404, "NoSuchEntity", f"The role with name {name} cannot be found.")
        policy = quote(json.dumps(self.roles[name]))
        return _xml(200, _ROLE.format(name=name, policy=policy, seconds=self.max_session_seconds))

    def _provider(self, arn: str) -> Response:
        if arn not in self.client_ids:
            return _error(404, "NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}")
        return _xml(200, _PROVIDER.format(ids="".join(f"<member>{escape(i)}</member>" for i in self.client_ids[arn])))


def _error(status: int, code: str, message: str) -> Response:
    return _xml(status, _ERROR.format(code=code, message=escape(message)))


def _xml(status: int, body: str) -> Response:
    return Response(status, body.encode(), "text/xml")


def served_iam() -> AbstractAsyncContextManager[Iam]:
    return serving_peer(Iam)
