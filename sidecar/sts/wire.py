"""
Write the requests of AssumeRoleWithWebIdentity and AssumeRole, and parse their responses. Pure.

Rule: a response leads to complete credentials or to an ExchangeError, and never to another exception. The parser keeps
only the elements that it needs, so other elements take no memory. A document type is an error, so no entity can expand.
From the body of a 200, errors quote only the name of the root element, because the body contains secrets.

Protocol: AWS query protocol, STS API version 2011-06-15. Tests compare every byte with botocore.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlencode
from xml.parsers import expat

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.errors import HINTS, NEXT_STEPS, Operation, hint, next_step

if TYPE_CHECKING:
    from sidecar.role import ChainStep

__all__ = [
    "HEADERS",
    "HINTS",
    "NEXT_STEPS",
    "Operation",
    "assume_role",
    "assume_role_with_web_identity",
    "hint",
    "read_reply",
]

API_VERSION = "2011-06-15"

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        # The caller limits the bytes that it reads, but a compressed body could expand to any size.
        "Accept-Encoding": "identity",
    }
)
"""
The headers of a form, without the User-Agent, which the caller adds.

AssumeRoleWithWebIdentity has no Authorization header, because the token proves the identity. AssumeRole is signed
(signing.py).
"""

MAX_DEPTH = 32
"""Maximum depth of XML elements. Responses of STS have four levels."""

MAX_MESSAGE_LENGTH = 2000
"""Maximum length of an error message. An access-denied message contains up to three ARNs, and an id of up to 256
characters twice."""

MAX_EXCERPT_LENGTH = 200
"""Maximum length of the excerpt of another server's body. A proxy's page usually names the proxy in its first words."""


# The requests


def assume_role_with_web_identity(
    *,
    role_arn: str,
    session_name: str,
    token: str,
    duration_seconds: int,
    policy: str | None = None,
    policy_arns: Sequence[str] = (),
) -> bytes:
    """
    Return the body of the POST to `/`, form-urlencoded, in the order of STS's model.

    `policy` (JSON) and `policy_arns` are session policies, which can only restrict the role's permissions.
    """
    fields = {"RoleArn": role_arn, "RoleSessionName": session_name, "WebIdentityToken": token}
    return _form(Operation.ASSUME_ROLE_WITH_WEB_IDENTITY, fields | _session(duration_seconds, policy, policy_arns))


def assume_role(step: "ChainStep") -> bytes:
    """
    Return the body of an AssumeRole request, encoded as in assume_role_with_web_identity.

    `transitive_tags` are keys of `tags` that later sessions of the chain keep.
    """
    fields = {"RoleArn": step.role_arn, "RoleSessionName": step.session_name or ""}
    fields |= _session(step.duration_seconds, step.policy, step.policy_arns)
    for number, (key, value) in enumerate(step.tags, 1):
        fields |= {f"Tags.member.{number}.Key": key, f"Tags.member.{number}.Value": value}
    fields |= {f"TransitiveTagKeys.member.{number}": key for number, key in enumerate(step.transitive_tags, 1)}
    optional = {"ExternalId": step.external_id, "SourceIdentity": step.source_identity}
    return _form(Operation.ASSUME_ROLE, fields | {name: text for name, text in optional.items() if text is not None})


def _session(duration_seconds: int, policy: str | None, policy_arns: Sequence[str]) -> dict[str, str]:
    """Return the session parameters that both operations have."""
    fields = {f"PolicyArns.member.{number}.arn": arn for number, arn in enumerate(policy_arns, 1)}
    if policy is not None:
        fields["Policy"] = policy
    return fields | {"DurationSeconds": str(duration_seconds)}


def _form(operation: Operation, fields: Mapping[str, str]) -> bytes:
    # A lone surrogate from the environment becomes "?", which STS rejects with the parameter's name.
    whole = {"Action": operation, "Version": API_VERSION, **fields}
    return urlencode(whole, errors="replace").encode("ascii")


# The response

_Path = tuple[str, ...]
"""A path of element names below the root. Namespaces are removed, because STS and its emulators use different ones."""

_ACCESS_KEY_ID = ("Credentials", "AccessKeyId")
_SECRET_ACCESS_KEY = ("Credentials", "SecretAccessKey")
_SESSION_TOKEN = ("Credentials", "SessionToken")
_EXPIRATION = ("Credentials", "Expiration")
_ARN = ("AssumedRoleUser", "Arn")
_SIZE = ("SessionTokenSize",)
_UTILIZATION = ("SessionTokenUtilization",)
_REPLY = (_ACCESS_KEY_ID, _SECRET_ACCESS_KEY, _SESSION_TOKEN, _EXPIRATION, _ARN, _SIZE, _UTILIZATION)
"""Paths of the wanted elements, below the result element. The name of the result element contains the operation."""

_ERRORS = (("Errors", "Error"), ("Error",))
"""Paths of an error in the query protocol: usually `ErrorResponse/Error`, sometimes `Response/Errors/Error`."""

_CREDENTIAL = re.compile(r"[\x21-\x7e]+")
"""Pattern for visible ASCII, the only characters that a signed header can contain unchanged."""

_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
)
"""Pattern for ISO 8601 with an offset. STS sends whole seconds and `Z`; moto sends microseconds."""

_ACCOUNT = re.compile(r"arn:[a-z0-9-]+:sts:[^:]*:([0-9]{12}):.+", re.DOTALL)

_CODE = r"[A-Za-z0-9._:-]{1,128}"

_SECRETS = (
    r"(?P<shown>(?:#/authorization-details/|(?i:authorization id): )[0-9a-z]{1,256}(?![A-Za-z0-9_+/=-])"
    r"|arn:aws[a-z-]*:(?:iam|organizations|sts)::[0-9]{12}:(?:policy|role|assumed-role)/"
    r"(?!(?:[\w+=,@/-]*/)?eyJ)[\w+=,@/-]{1,256}(?![\w+=,@/-]))"
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"
    r"|[A-Za-z0-9_+/=-]{80,}"
)
"""
Pattern for a JWT or a part of one. A proxy's debug page may contain the rejected request, including the token.

The group `shown` is text that messages may show. The first kind is an authorization id. AWS writes it at two places, in
up to 256 lower-case letters and digits (botocore's model of iam-toolbox; IAM User Guide, Troubleshoot access denied
error messages with authorization ID). Tokens and keys mix upper and lower case. The second kind is the ARN of a policy,
a role or a session. The ARN of a service control policy has up to 195 characters after its last colon (AWS
Organizations API reference, PolicySummary).
"""

_CREDENTIALS = rb"SecretAccessKey|SessionToken"
"""
Pattern for names of elements that contain credentials. No excerpt of a body that matches is shown, whatever the status
is.
"""


def read_reply(
    status: int,
    body: bytes,
    *,
    role_arn: str,
    operation: Operation = Operation.ASSUME_ROLE_WITH_WEB_IDENTITY,
    retry_after: str | None = None,
    retry_after_milliseconds: str | None = None,
) -> Credentials:
    """
    Return the credentials in a response.

    `retry_after` is the value of the header (RFC 9110, 10.2.3); only seconds are used. `retry_after_milliseconds` is
    AWS's own `x-amz-retry-after`. The longer of the two counts.

    Raises ExchangeError if the response has no complete credentials. The error's code is AWS's code if the body has
    one, else `Http` and the status. A success without complete credentials has the code `MalformedReply`.
    """
    if status == 200:
        return _credentials(body, operation, role_arn)
    if 200 < status < 300:
        _refuse(f"HTTP {status} is not a response to {operation}", status)
    waits = (_seconds(retry_after, 1.0), _seconds(retry_after_milliseconds, 1000.0))
    raise _error(status, body, operation, max((wait for wait in waits if wait is not None), default=None))


def _credentials(body: bytes, operation: Operation, role_arn: str) -> Credentials:
    try:
        root, found = _read_xml(body, [(f"{operation}Result", *path) for path in _REPLY])
    except ValueError as exc:
        _refuse(f"the response cannot be parsed ({exc})", cause=exc)
    if root != f"{operation}Response":
        _refuse(f"the root element is {_clean(root, 60)!r} instead of {operation}Response")
    texts = {path[1:]: text for path, text in found.items()}
    return Credentials(
        access_key_id=_credential(texts, _ACCESS_KEY_ID),
        secret_access_key=_credential(texts, _SECRET_ACCESS_KEY),
        session_token=_credential(texts, _SESSION_TOKEN),
        expires_at=_instant(texts),
        role_arn=role_arn,
        account_id=_account_id(texts),
        token_bytes=_whole_number(texts, _SIZE),
        token_percent=_whole_number(texts, _UTILIZATION),
    )


def _whole_number(texts: Mapping[_Path, str], path: _Path) -> int | None:
    """
    Return a number that STS reports with the credentials, or None if the text is missing or invalid.

    An invalid text is not an error, because nothing depends on the number.
    """
    text = texts.get(path, "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _credential(texts: Mapping[_Path, str], path: _Path) -> str:
    text = texts.get(path, "")
    if not text.strip():
        _refuse(f"{path[-1]} is missing or empty")
    if _CREDENTIAL.fullmatch(text) is None:
        _refuse(f"{path[-1]} contains characters that no credential has")
    return text


def _instant(texts: Mapping[_Path, str]) -> datetime:
    match = _INSTANT.fullmatch(texts.get(_EXPIRATION, ""))
    if match is None:
        _refuse("Expiration is missing, or is not a timestamp with a UTC offset")
    try:
        return datetime.fromisoformat(match[1] + match[2]).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        _refuse("Expiration is not a date and time", cause=exc)


def _account_id(texts: Mapping[_Path, str]) -> str:
    match = _ACCOUNT.fullmatch(texts.get(_ARN, ""))
    if match is None:
        _refuse("AssumedRoleUser's Arn is missing or contains no account")
    return match[1]


def _refuse(problem: str, status: int = 200, cause: Exception | None = None) -> NoReturn:
    message = f"STS returned a malformed response, which is ignored: {problem}. Check whether a proxy changes it"
    raise ExchangeError("MalformedReply", message, NextStep.RETRY, status=status) from cause


def _error(status: int, body: bytes, operation: Operation, retry_after_seconds: float | None) -> ExchangeError:
    code, message = _aws_error(body)
    if re.fullmatch(_CODE, code) is None:
        code = f"Http{status}"
    return ExchangeError(
        code,
        message or "no message came with it",
        next_step(code, message, status, operation),
        status=status,
        retry_after_seconds=retry_after_seconds,
    )


def _aws_error(body: bytes) -> tuple[str, str]:
    """Return AWS's error code and message. If the body has no code, the message is an excerpt of the body."""
    try:
        _, texts = _read_xml(body, [(*error, field) for error in _ERRORS for field in ("Code", "Message")])
    except ValueError:
        texts = {}
    for error in _ERRORS:
        if code := texts.get((*error, "Code"), "").strip():
            return code, _clean(texts.get((*error, "Message"), ""), MAX_MESSAGE_LENGTH)
    return "", _excerpt(body)


def _excerpt(body: bytes) -> str:
    if re.search(_CREDENTIALS, body):
        return ""
    start = body[: 10 * MAX_EXCERPT_LENGTH].decode("utf-8", "replace")
    words = re.sub(r"<[^<>]*>?", " ", start).split()
    return _clean(" ".join(words), MAX_EXCERPT_LENGTH)


def _clean(text: str, limit: int) -> str:
    """Return the text on one line, without parts that look like a token, and cut to `limit`."""
    printable = "".join(char if char.isprintable() else " " for char in re.sub(_SECRETS, _hidden, text))
    line = printable.strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _hidden(found: re.Match[str]) -> str:
    return found["shown"] or "[hidden]"


def _seconds(header: str | None, units_per_second: float) -> float | None:
    """Return a header's number in seconds, or None. A date leads to None too, because STS never sends one."""
    text = (header or "").strip()
    return int(text) / units_per_second if re.fullmatch(r"[0-9]{1,9}", text) else None


# XML


def _read_xml(body: bytes, leaves: Iterable[_Path]) -> tuple[str, Mapping[_Path, str]]:
    """
    Return the root's name, and the texts of those `leaves` that occur once and contain only text.

    Raises ValueError if the body is not well-formed XML, declares a document type, or is nested too deeply.
    """
    reading = _Reading(leaves)
    # botocore also reads UTF-8, whatever encoding the document declares. Expat recognises UTF-16 by its zero bytes.
    parser = expat.ParserCreate("utf-8", "}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.doctype
    parser.StartElementHandler = reading.start
    parser.CharacterDataHandler = reading.text
    parser.EndElementHandler = reading.end
    try:
        parser.Parse(body, True)  # noqa: FBT003 - positional in pyexpat: this is the last chunk
    except expat.ExpatError as exc:
        raise ValueError(f"no XML: {exc}") from exc
    return reading.root, reading.texts()


class _Reading:
    """The handler of expat's events, which keeps only the wanted elements."""

    def __init__(self, leaves: Iterable[_Path]) -> None:
        self.root = ""
        self._leaves = frozenset(leaves)
        self._wanted = {leaf[:depth] for leaf in self._leaves for depth in range(1, len(leaf) + 1)}
        self._names: list[str] = []
        self._pieces: dict[_Path, list[str]] = {}
        self._spoilt: set[_Path] = set()

    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("it declares a document type")

    def start(self, name: str, _: object) -> None:
        if len(self._names) == MAX_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_DEPTH}")
        self._names.append(name.rpartition("}")[2])
        self.root = self.root or self._names[0]
        path = self._path()
        if path[:-1] in self._leaves:
            self._spoilt.add(path[:-1])
        if path in self._pieces:
            self._spoilt.add(path)
        elif path in self._wanted:
            self._pieces[path] = []

    def text(self, text: str) -> None:
        pieces = self._pieces.get(self._path())
        if pieces is not None:
            pieces.append(text)

    def end(self, _: str) -> None:
        self._names.pop()

    def texts(self) -> Mapping[_Path, str]:
        """Return the text of each wanted element. Ignore elements that occur twice or contain elements."""
        return {
            leaf: "".join(self._pieces[leaf])
            for leaf in self._leaves & self._pieces.keys()
            if not any(leaf[:depth] in self._spoilt for depth in range(1, len(leaf) + 1))
        }

    def _path(self) -> _Path:
        return tuple(self._names[1:])
