"""
STS's AssumeRoleWithWebIdentity and AssumeRole as bytes: the requests' forms, and what a reply means.

Rule: a reply is credentials as a whole or an ExchangeError, never a part and never another exception. Only the
elements that are wanted are kept while the XML is read, so its size and shape cost nothing, and it may declare no
document type, so no entity can grow. An error quotes no text of a 200, which holds secrets.

Protocol: AWS query protocol, STS API version 2011-06-15. botocore is the authority; tests hold every byte to it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NoReturn
from urllib.parse import urlencode
from xml.parsers import expat

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.errors import HINTS, NEXT_STEPS, Operation, hint, next_step

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
        # The caller caps the bytes it reads; a packed body could unfold to anything.
        "Accept-Encoding": "identity",
    }
)
"""
What goes with a form, besides the caller's own User-Agent. With a token no Authorization: the token is the proof.
AssumeRole is signed (signing.py).
"""

MAX_DEPTH = 32
"""STS nests five deep."""

MAX_MESSAGE_LENGTH = 2000
"""An access-denied message has up to three ARNs, and an authorization id of up to 256 characters twice."""

MAX_EXCERPT_LENGTH = 200
"""Of a body that is not STS's: a proxy's page names itself in its first words."""


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
    The body of the POST to `/`, form-urlencoded, in the order of STS's model.

    `policy` (JSON) and `policy_arns` are session policies: they can only narrow what the role allows.
    """
    fields = {"RoleArn": role_arn, "RoleSessionName": session_name, "WebIdentityToken": token}
    return _form(Operation.ASSUME_ROLE_WITH_WEB_IDENTITY, fields | _session(duration_seconds, policy, policy_arns))


def assume_role(
    *,
    role_arn: str,
    session_name: str,
    duration_seconds: int,
    policy: str | None = None,
    policy_arns: Sequence[str] = (),
    tags: Sequence[tuple[str, str]] = (),
    transitive_tags: Sequence[str] = (),
    external_id: str | None = None,
    source_identity: str | None = None,
) -> bytes:
    """As assume_role_with_web_identity. `transitive_tags` are keys of `tags` that the sessions after this one keep."""
    fields = {"RoleArn": role_arn, "RoleSessionName": session_name}
    fields |= _session(duration_seconds, policy, policy_arns)
    for number, (key, value) in enumerate(tags, 1):
        fields |= {f"Tags.member.{number}.Key": key, f"Tags.member.{number}.Value": value}
    fields |= {f"TransitiveTagKeys.member.{number}": key for number, key in enumerate(transitive_tags, 1)}
    said = {"ExternalId": external_id, "SourceIdentity": source_identity}
    return _form(Operation.ASSUME_ROLE, fields | {name: text for name, text in said.items() if text is not None})


def _session(duration_seconds: int, policy: str | None, policy_arns: Sequence[str]) -> dict[str, str]:
    """What both operations ask of a session."""
    fields = {f"PolicyArns.member.{number}.arn": arn for number, arn in enumerate(policy_arns, 1)}
    if policy is not None:
        fields["Policy"] = policy
    return fields | {"DurationSeconds": str(duration_seconds)}


def _form(operation: Operation, fields: Mapping[str, str]) -> bytes:
    # What is no text (a lone surrogate from the environment) becomes "?", which STS refuses by name.
    whole = {"Action": operation, "Version": API_VERSION, **fields}
    return urlencode(whole, errors="replace").encode("ascii")


# The reply

_Path = tuple[str, ...]
"""Element names below the root, without namespaces: STS's servers and its many stand-ins differ in those."""

_ACCESS_KEY_ID = ("Credentials", "AccessKeyId")
_SECRET_ACCESS_KEY = ("Credentials", "SecretAccessKey")
_SESSION_TOKEN = ("Credentials", "SessionToken")
_EXPIRATION = ("Credentials", "Expiration")
_ARN = ("AssumedRoleUser", "Arn")
_SIZE = ("SessionTokenSize",)
_UTILIZATION = ("SessionTokenUtilization",)
_REPLY = (_ACCESS_KEY_ID, _SECRET_ACCESS_KEY, _SESSION_TOKEN, _EXPIRATION, _ARN, _SIZE, _UTILIZATION)
"""Below the element of the result, which is called after the operation."""

_ERRORS = (("Errors", "Error"), ("Error",))
"""Where the query protocol keeps an error: `ErrorResponse/Error` as a rule, `Response/Errors/Error` at times."""

_CREDENTIAL = re.compile(r"[\x21-\x7e]+")
"""What can stand in a signed header as it is: visible ASCII."""

_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
)
"""ISO 8601 with an offset. STS sends whole seconds and `Z`; moto sends microseconds."""

_ACCOUNT = re.compile(r"arn:[a-z0-9-]+:sts:[^:]*:([0-9]{12}):.+", re.DOTALL)

_CODE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_SECRET = re.compile(
    r"(?P<shown>(?:#/authorization-details/|(?i:authorization id): )[0-9a-z]{1,256}(?![A-Za-z0-9_+/=-]))"
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"
    r"|[A-Za-z0-9_+/=-]{80,}"
)
"""
A JWT, or a piece of one: a proxy's debug page may hold the request that it did not like, token and all.

An authorization id is `shown` at the two places where AWS has it: lower-case letters and digits, up to 256 (botocore's
model of iam-toolbox; IAM User Guide, Troubleshoot access denied error messages with authorization ID). Tokens and keys
mix upper and lower case.
"""

_CREDENTIALS = re.compile(rb"SecretAccessKey|SessionToken")
"""A body with one of these names holds credentials, whatever its status says, and is not shown at all."""


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
    Return the credentials in a reply.

    `retry_after` is the header as it came (RFC 9110, 10.2.3), of which only seconds count, and
    `retry_after_milliseconds` AWS's own `x-amz-retry-after`. The longer of the two counts.

    Raises ExchangeError otherwise: with AWS's own code and message where the body has them; with `Http` and the status
    where it has none; with `MalformedReply` for a success that cannot be used whole.
    """
    if status == 200:
        return _credentials(body, operation, role_arn)
    if 200 < status < 300:
        _refuse(f"HTTP {status} answers no {operation}", status)
    waits = (_seconds(retry_after, 1.0), _seconds(retry_after_milliseconds, 1000.0))
    raise _error(status, body, operation, max((wait for wait in waits if wait is not None), default=None))


def _credentials(body: bytes, operation: Operation, role_arn: str) -> Credentials:
    try:
        root, found = _read_xml(body, [(f"{operation}Result", *path) for path in _REPLY])
    except ValueError as exc:
        _refuse(f"the answer cannot be read ({exc})", cause=exc)
    if root != f"{operation}Response":
        _refuse(f"the answer is {_clean(root, 60)!r} and not {operation}Response")
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
    """Return a number that STS reports beside the credentials. Nothing depends on it, so anything else is ignored."""
    text = texts.get(path, "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _credential(texts: Mapping[_Path, str], path: _Path) -> str:
    text = texts.get(path, "")
    if not text.strip():
        _refuse(f"{path[-1]} is missing or empty")
    if _CREDENTIAL.fullmatch(text) is None:
        _refuse(f"{path[-1]} holds characters that no credential has")
    return text


def _instant(texts: Mapping[_Path, str]) -> datetime:
    match = _INSTANT.fullmatch(texts.get(_EXPIRATION, ""))
    if match is None:
        _refuse("Expiration is missing or no instant with an offset")
    try:
        return datetime.fromisoformat(match[1] + match[2]).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        _refuse("Expiration is no day or time that there is", cause=exc)


def _account_id(texts: Mapping[_Path, str]) -> str:
    match = _ACCOUNT.fullmatch(texts.get(_ARN, ""))
    if match is None:
        _refuse("AssumedRoleUser's Arn is missing or names no account")
    return match[1]


def _refuse(problem: str, status: int = 200, cause: Exception | None = None) -> NoReturn:
    message = f"STS's answer is passed over as a whole: {problem}"
    raise ExchangeError("MalformedReply", message, NextStep.RETRY, status=status) from cause


def _error(status: int, body: bytes, operation: Operation, retry_after_seconds: float | None) -> ExchangeError:
    code, message = _aws_error(body)
    if _CODE.fullmatch(code) is None:
        code = f"Http{status}"
    return ExchangeError(
        code,
        message or "no message came with it",
        next_step(code, message, status, operation),
        status=status,
        retry_after_seconds=retry_after_seconds,
    )


def _aws_error(body: bytes) -> tuple[str, str]:
    """Code and message; without a code, the message is what can be shown of the body."""
    try:
        _, texts = _read_xml(body, [(*error, field) for error in _ERRORS for field in ("Code", "Message")])
    except ValueError:
        texts = {}
    for error in _ERRORS:
        if code := texts.get((*error, "Code"), "").strip():
            return code, _clean(texts.get((*error, "Message"), ""), MAX_MESSAGE_LENGTH)
    return "", _excerpt(body)


def _excerpt(body: bytes) -> str:
    if _CREDENTIALS.search(body):
        return ""
    start = body[: 10 * MAX_EXCERPT_LENGTH].decode("utf-8", "replace")
    words = re.sub(r"<[^<>]*>?", " ", start).split()
    return _clean(" ".join(words), MAX_EXCERPT_LENGTH)


def _clean(text: str, limit: int) -> str:
    """On one line, without what looks like a token, and no longer than `limit`."""
    printable = "".join(char if char.isprintable() else " " for char in _SECRET.sub(_hidden, text))
    line = printable.strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _hidden(found: re.Match[str]) -> str:
    return found["shown"] or "[hidden]"


def _seconds(header: str | None, units_per_second: float) -> float | None:
    """Return a header's whole number in seconds. A date would need a clock, and STS sends none, so it is ignored."""
    text = (header or "").strip()
    return int(text) / units_per_second if re.fullmatch(r"[0-9]{1,9}", text) else None


# XML


def _read_xml(body: bytes, leaves: Iterable[_Path]) -> tuple[str, Mapping[_Path, str]]:
    """
    The root's name, and the texts of those `leaves` that are there once and hold only text.

    Raises ValueError for what is no well-formed XML, declares a document type, or nests too deep.
    """
    reading = _Reading(leaves)
    # As botocore has it: UTF-8, whatever the document declares. (Expat tells UTF-16 by its zero bytes.)
    parser = expat.ParserCreate("utf-8", "}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.doctype
    parser.StartElementHandler = reading.start
    parser.CharacterDataHandler = reading.text
    parser.EndElementHandler = reading.end
    try:
        parser.Parse(body, True)  # noqa: FBT003 - pyexpat takes it by position only: this is all there is
    except expat.ExpatError as exc:
        raise ValueError(f"no XML: {exc}") from exc
    return reading.root, reading.texts()


class _Reading:
    """Takes expat's events and keeps the wanted elements."""

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
        """Of two elements by one name nobody can say which is meant, so neither counts, nor what is in them."""
        return {
            leaf: "".join(self._pieces[leaf])
            for leaf in self._leaves & self._pieces.keys()
            if not any(leaf[:depth] in self._spoilt for depth in range(1, len(leaf) + 1))
        }

    def _path(self) -> _Path:
        return tuple(self._names[1:])
