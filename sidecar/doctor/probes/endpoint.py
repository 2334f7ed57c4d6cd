"""The credentials endpoint, asked as an SDK asks it; and the secret, as an SDK reads it."""

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
from sidecar.doctor.checks.endpoint import EXPIRATION, FIELDS, EndpointFacts, SecretFacts, Served
from sidecar.doctor.probes.conversation import Answer, ask
from sidecar.doctor.probes.guard import FILE_SECONDS, guarded, in_thread
from sidecar.files import read_regular_file
from sidecar.serving.authorization import MAX_SECRET_BYTES

TRIES, PAUSE_SECONDS = 3, 1.0
"""As botocore has it: an endpoint that is not ready yet is asked again."""

ANSWER_SECONDS = 5.0

PIECE = 12
"""Characters of a secret that a text may not hold to be shown."""

_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_ACCESS_KEY_ID = re.compile(r"[A-Z0-9]{12,128}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials to sign with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where an SDK would ask and with what: the setting's name and value, and the secret's two forms.

    `is_expected` is whether a daemon must be there; `role_arn` whose credentials it must have, if that is known.
    """

    setting: str
    url: str
    secret_file: str | None
    secret_text: str | None = field(repr=False)
    is_expected: bool
    role_arn: str | None


async def look(endpoint: Endpoint) -> tuple[EndpointFacts, Keys | None]:
    """What an SDK would meet, and the credentials that it would get. Raises nothing."""
    secret, facts = await _secret_in_time(endpoint)
    served, keys = await _asked(endpoint.url, secret)
    return EndpointFacts(
        url=endpoint.url,
        setting=endpoint.setting,
        is_expected=endpoint.is_expected,
        now=time(),
        secret=facts,
        served=served,
        role_arn=endpoint.role_arn,
    ), keys


async def _secret_in_time(endpoint: Endpoint) -> tuple[str | None, SecretFacts]:
    looked = await guarded(in_thread(_secret, endpoint), FILE_SECONDS)
    return looked.facts or (None, SecretFacts(endpoint.secret_file, looked.why))


def _secret(endpoint: Endpoint) -> tuple[str | None, SecretFacts]:
    """The secret, the file's before the variable's, as most SDKs have it; and what there is to say of it."""
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
        return None, "it is no regular file"
    if not content.strip() or len(content) > MAX_SECRET_BYTES:
        return None, "it is empty" if not content.strip() else f"it is over {MAX_SECRET_BYTES} bytes"
    if not all(0x20 <= byte < 0x7F for byte in content.rstrip(b"\r\n")):
        return None, "it holds more than one line of visible ASCII"
    return content.decode("ascii"), ""


async def _asked(url: str, secret: str | None) -> tuple[Served | None, Keys | None]:
    """None where the secret must not go: SDKs send it over plain http to loopback only."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None, None
    if parts.scheme != "http" or not parts.hostname or not await _is_on_loopback(parts.hostname, port):
        return None, None
    for _ in range(TRIES - 1):
        served, keys = await _once(parts, port, secret)
        if served.status != 503:
            return served, keys
        await trio.sleep(PAUSE_SECONDS)
    return await _once(parts, port, secret)


async def _is_on_loopback(host: str, port: int) -> bool:
    try:
        with trio.fail_after(ANSWER_SECONDS):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError):
        return False
    return all(is_loopback(str(where[0])) for *_, where in found)


async def _once(parts: SplitResult, port: int, secret: str | None) -> tuple[Served, Keys | None]:
    headers = {"Host": parts.netloc, "Accept": "application/json"}
    if secret is not None:
        headers["Authorization"] = secret
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = perf_counter()
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_tcp_stream(parts.hostname or "", port) as stream:
                answer = await ask(stream, "GET", target, headers)
    except trio.TooSlowError:
        return Served(error=f"nothing came within {ANSWER_SECONDS:.0f} s"), None
    except (trio.BrokenResourceError, h11.ProtocolError, UnicodeError):
        return Served(error="the server does not speak HTTP, or broke off"), None
    except OSError as exc:
        return Served(error=str(exc), refused=True), None
    return _read(answer, perf_counter() - began, secret)


def _read(answer: Answer, seconds: float, secret: str | None) -> tuple[Served, Keys | None]:
    served = Served(answer.status, seconds=seconds, content_type=answer.headers.get("content-type", ""))
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return served._replace(is_json=False), None
    if answer.status != 200:
        return served._replace(message=_shown(body.get("message") or body.get("Message"), secret)), None
    return _credentials(served, body)


def _credentials(served: Served, body: Mapping[str, Any]) -> tuple[Served, Keys | None]:
    texts = {name: value for name, value in body.items() if isinstance(value, str) and value}
    empty = tuple(name for name in sorted(FIELDS) if name in body and name not in texts)
    fields = frozenset(name if _NAME.fullmatch(name) else "(a strange name)" for name in body)
    expiration = texts.get("Expiration", "")
    served = served._replace(
        fields=fields,
        empty=empty,
        expiration=expiration if re.fullmatch(r"[0-9TZ:.+-]{1,40}", expiration) else "",
        expires_at=_instant(expiration),
        access_key_id=_only(_ACCESS_KEY_ID, texts.get("AccessKeyId", "")) or "a key",
        role_arn=_only(_ROLE_ARN, texts.get("RoleArn", "")),
    )
    if not texts.keys() >= FIELDS:
        return served, None
    return served, Keys(texts["AccessKeyId"], texts["SecretAccessKey"], texts["Token"])


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
    """What an error says, unless it quotes the secret: whoever listens there may send back what it was sent."""
    if not isinstance(message, str):
        return ""
    if secret and any(secret[at : at + PIECE] in message for at in range(max(1, len(secret) - PIECE + 1))):
        return "(its message is not shown, as it quotes the secret)"
    return "".join(character if character.isprintable() else " " for character in message)[:1000]
