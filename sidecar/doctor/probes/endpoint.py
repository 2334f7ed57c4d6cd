"""Call the credentials endpoint and read its secret as an SDK does."""

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from sidecar.addresses import is_loopback
from sidecar.doctor.checks.endpoint import EXPIRATION, FIELDS, EndpointFacts, EndpointResponse, SecretFacts
from sidecar.doctor.probes.guard import FILE_SECONDS, guarded, in_thread
from sidecar.doctor.probes.http_request import Response, send_request
from sidecar.files import read_regular_file
from sidecar.serving.authorization import MAX_SECRET_BYTES

ATTEMPTS, PAUSE_SECONDS = 3, 1.0
"""Number of calls while the endpoint returns 503, and the pause between calls. Both are botocore's values."""

RESPONSE_SECONDS = 5.0

QUOTED_CHARACTERS = 12
"""Length of the shortest quotation of the secret, in characters. A message with such a quotation is not shown."""

_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_ACCESS_KEY_ID = re.compile(r"[A-Z0-9]{12,128}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The credentials that sign requests to AWS."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The endpoint in an SDK's configuration: the setting's name and value, and the secret's file and value.

    `is_expected` is true if a daemon must run there. `role_arn` is the expected role, if known.
    """

    setting: str
    url: str
    secret_file: str | None
    secret_text: str | None = field(repr=False)
    is_expected: bool
    role_arn: str | None


async def collect(endpoint: Endpoint) -> tuple[EndpointFacts, Keys | None]:
    """
    Return the facts about the endpoint, and the credentials that an SDK would get.

    Raises nothing.
    """
    secret, facts = await _secret_in_time(endpoint)
    response, keys = await _call(endpoint.url, secret)
    return EndpointFacts(
        url=endpoint.url,
        setting=endpoint.setting,
        is_expected=endpoint.is_expected,
        now=time(),
        secret=facts,
        response=response,
        role_arn=endpoint.role_arn,
    ), keys


async def _secret_in_time(endpoint: Endpoint) -> tuple[str | None, SecretFacts]:
    result = await guarded(in_thread(_secret, endpoint), FILE_SECONDS)
    return result.facts or (None, SecretFacts(endpoint.secret_file, result.reason))


def _secret(endpoint: Endpoint) -> tuple[str | None, SecretFacts]:
    """Return the secret and the facts about it. The file has priority over the variable, as in most SDKs."""
    text, path = endpoint.secret_text, endpoint.secret_file
    if path is None:
        return text, SecretFacts(in_variable=text is not None)
    content, problem = _content(path)
    if content is None:
        return None, SecretFacts(path, problem, in_variable=text is not None)
    bare = content.rstrip("\r\n")
    return bare, SecretFacts(
        path, "", ends_in_newline=bare != content, in_variable=text is not None, are_equal=text in {None, bare}
    )


def _content(path: str) -> tuple[str | None, str]:
    try:
        content = read_regular_file(path, MAX_SECRET_BYTES + 1)
    except OSError as exc:
        return None, exc.strerror or type(exc).__name__
    if content is None:
        return None, "it is not a regular file"
    if not content.strip() or len(content) > MAX_SECRET_BYTES:
        return None, "it is empty" if not content.strip() else f"it is over {MAX_SECRET_BYTES} bytes"
    if not all(0x20 <= byte < 0x7F for byte in content.rstrip(b"\r\n")):
        return None, "it holds more than one line of visible ASCII"
    return content.decode("ascii"), ""


async def _call(url: str, secret: str | None) -> tuple[EndpointResponse | None, Keys | None]:
    """
    Call the endpoint, and repeat a call that returns 503.

    Return None without a call unless the URL is plain HTTP on loopback. SDKs send the secret over plain HTTP only to
    loopback.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None, None
    if parts.scheme != "http" or not parts.hostname or not await _is_on_loopback(parts.hostname, port):
        return None, None
    for _ in range(ATTEMPTS - 1):
        response, keys = await _call_once(parts, port, secret)
        if response.status != 503:
            return response, keys
        await trio.sleep(PAUSE_SECONDS)
    return await _call_once(parts, port, secret)


async def _is_on_loopback(host: str, port: int) -> bool:
    try:
        with trio.fail_after(RESPONSE_SECONDS):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError):
        return False
    return all(is_loopback(str(address[0])) for *_, address in found)


async def _call_once(parts: SplitResult, port: int, secret: str | None) -> tuple[EndpointResponse, Keys | None]:
    headers = {"Host": parts.netloc, "Accept": "application/json"}
    if secret is not None:
        headers["Authorization"] = secret
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = perf_counter()
    try:
        with trio.fail_after(RESPONSE_SECONDS):
            async with await trio.open_tcp_stream(parts.hostname or "", port) as stream:
                response = await send_request(stream, "GET", target, headers)
    except trio.TooSlowError:
        return EndpointResponse(error=f"no response within {RESPONSE_SECONDS:.0f} s"), None
    except (trio.BrokenResourceError, h11.ProtocolError, UnicodeError):
        return EndpointResponse(error="the server does not speak HTTP, or closed the connection"), None
    except OSError as exc:
        return EndpointResponse(error=str(exc), is_refused=True), None
    return _read(response, perf_counter() - began, secret)


def _read(response: Response, seconds: float, secret: str | None) -> tuple[EndpointResponse, Keys | None]:
    facts = EndpointResponse(response.status, seconds=seconds, content_type=response.headers.get("content-type", ""))
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return facts._replace(is_json=False), None
    if response.status != 200:
        return facts._replace(message=_shown(body.get("message") or body.get("Message"), secret)), None
    return _credentials(facts, body)


def _credentials(facts: EndpointResponse, body: Mapping[str, Any]) -> tuple[EndpointResponse, Keys | None]:
    texts = {name: value for name, value in body.items() if isinstance(value, str) and value}
    empty = tuple(name for name in sorted(FIELDS) if name in body and name not in texts)
    fields = frozenset(name if _NAME.fullmatch(name) else "(an unusual name)" for name in body)
    expiration = texts.get("Expiration", "")
    facts = facts._replace(
        fields=fields,
        empty=empty,
        expiration=expiration if re.fullmatch(r"[0-9TZ:.+-]{1,40}", expiration) else "",
        expires_at=_instant(expiration),
        access_key_id=_only(_ACCESS_KEY_ID, texts.get("AccessKeyId", "")) or "a key",
        role_arn=_only(_ROLE_ARN, texts.get("RoleArn", "")),
    )
    if not texts.keys() >= FIELDS:
        return facts, None
    return facts, Keys(texts["AccessKeyId"], texts["SecretAccessKey"], texts["Token"])


def _only(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _instant(text: str) -> float | None:
    if not EXPIRATION.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _shown(message: object, secret: str | None) -> str:
    """Return the message of an error response, unless it quotes the secret. A server may return what it received."""
    if not isinstance(message, str):
        return ""
    if secret and any(
        secret[at : at + QUOTED_CHARACTERS] in message for at in range(max(1, len(secret) - QUOTED_CHARACTERS + 1))
    ):
        return "(its message is not shown, because it quotes the secret)"
    return "".join(character if character.isprintable() else " " for character in message)[:1000]
