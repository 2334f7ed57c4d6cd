"""
Read the document of /status that a Pod sent. Pure.

Rule: a Pod's author controls every byte, so each value is checked and limited, and unknown fields are ignored. The
report escapes the texts.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sidecar.serving.status import (
    SCHEMA_VERSION,
    STATES,
    UNAVAILABLE,
    Client,
    DaemonStatus,
    Failure,
    LastCall,
    RoleStatus,
    without_access_keys,
)

MAX_BYTES = 512 * 1024
"""Maximum size of a document. A role has about 1 KiB, and with a long error 5 KiB."""

MAX_ROLES = 100
"""Maximum number of roles. A roles file has at most 50 in practice, because each role needs a loop."""

MAX_CLIENTS = 20
"""Maximum number of clients of a role. A daemon keeps five."""

MAX_TEXT = 4000
"""Longest text, in characters."""

MAX_SECONDS = 1e10
"""Largest number of seconds, about 300 years."""

MAX_COUNT = 1e15
"""Largest count, which a float still represents exactly."""


class UnreadableError(ValueError):
    """A document that is not the state of a daemon. The text is the reason."""


def read_status(body: bytes) -> DaemonStatus:
    """
    Return the state in the document.

    Raises UnreadableError if the document does not have the form that serving/status.py writes.
    """
    if len(body) > MAX_BYTES:
        raise UnreadableError(f"the response is over {MAX_BYTES} bytes")
    try:
        document = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as exc:
        raise UnreadableError("the response is not JSON") from exc
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:  # True is equal to 1
        raise UnreadableError(f"the response has schema version {str(version)[:20]}, and not {SCHEMA_VERSION}")
    try:
        return _daemon(document)
    except (KeyError, TypeError) as exc:
        raise UnreadableError("the response does not have the form of a status document") from exc


def _reject_constant(name: str) -> None:
    raise ValueError(name)


def _daemon(document: Mapping[str, Any]) -> DaemonStatus:
    roles = _list(document["roles"], MAX_ROLES)
    if not roles:
        raise TypeError("no role")
    return DaemonStatus(
        version=_text(document["version"]),
        now=_instant(document["now"]),
        uptime_seconds=_seconds(document["uptime_seconds"]),
        roles=tuple(_role(role) for role in roles),
    )


def _role(role: Mapping[str, Any]) -> RoleStatus:
    expires_in_seconds = _optional_seconds(role["expires_in_seconds"])
    return RoleStatus(
        name=_text(role["name"]),
        role_arn=_text(role["role_arn"]),
        state=_state(role["state"], expires_in_seconds),
        expires_in_seconds=expires_in_seconds,
        next_refresh_in_seconds=_seconds(role["next_refresh_in_seconds"]),
        session_seconds=_optional_seconds(role["session_seconds"]),
        token_expires_in_seconds=_optional_seconds(role["token_expires_in_seconds"]),
        clock_skew_seconds=_optional_seconds(role["clock_skew_seconds"]),
        last_call=None if role["last_call"] is None else _call(role["last_call"]),
        error=None if role["error"] is None else _error(role["error"]),
        served=_count(role["served"]),
        clients=tuple(_client(client) for client in _list(role["clients"], MAX_CLIENTS)),
    )


def _state(state: Any, expires_in_seconds: float | None) -> str:
    """Return the state, or that the credentials are unavailable if they have expired."""
    if state not in STATES:
        raise TypeError("an unknown state")
    is_expired = expires_in_seconds is not None and expires_in_seconds < 0
    return UNAVAILABLE if is_expired else str(state)


def _call(call: Mapping[str, Any]) -> LastCall:
    return LastCall(
        _text(call["code"]),
        _optional_count(call["http_status"]),
        _seconds(call["seconds_ago"]),
        _seconds(call["duration_seconds"]),
    )


def _error(error: Mapping[str, Any]) -> Failure:
    return Failure(_text(error["code"]), _text(error["message"]), needs_person=error["needs_person"] is True)


def _client(client: Mapping[str, Any]) -> Client:
    return Client(_optional_count(client["uid"]), _optional_count(client["pid"]), _seconds(client["seconds_ago"]))


def _list(value: Any, limit: int) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value[:limit]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return without_access_keys(value[:MAX_TEXT])


def _instant(value: Any) -> float:
    """Return the instant in Unix seconds. The text must have a time zone."""
    try:
        at = datetime.fromisoformat(_text(value))
        return at.timestamp() if at.tzinfo else _number(None, 0)
    except (ValueError, OverflowError) as exc:
        raise TypeError("not an instant") from exc


def _number(value: Any, limit: float) -> float:
    """Return the number. `bool` is a subclass of `int`, and an `int` can be too large for a float."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -limit <= value <= limit or math.isnan(value):
        raise TypeError("not a number, or too large")
    return float(value)


def _seconds(value: Any) -> float:
    return _number(value, MAX_SECONDS)


def _optional_seconds(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _count(value: Any) -> int:
    count = int(_number(value, MAX_COUNT))
    if count < 0:
        raise TypeError("negative")
    return count


def _optional_count(value: Any) -> int | None:
    return None if value is None else _count(value)
