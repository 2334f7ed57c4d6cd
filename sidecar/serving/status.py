"""
Describe the state of a daemon for people: one JSON document without secrets. Pure.

Rule: the document never contains credentials, access key IDs or tokens, because every Pod that can connect to the admin
address can read it. Each instant has a second field with the seconds from or until now, which a reader whose clock is
wrong can use. `run` imports this module at the first request for /status or the page.
"""

import json
from typing import Any, NamedTuple

from sidecar.clock import instant_text
from sidecar.printable import printable
from sidecar.redaction import HIDDEN

_KEY_PREFIXES = ("AKIA", "ASIA", "ABIA", "ACCA")
"""The prefixes of access keys and bearer tokens (IAM User Guide, Unique identifiers)."""

SCHEMA_VERSION = 1
"""The version of the document. New fields do not change it."""

MAX_TEXT = 2000
"""Longest text in the document, in characters. STS chooses the text of an error."""

READY, FAILING, UNAVAILABLE, STARTING = "ready", "failing", "unavailable", "starting"

STATES = {
    READY: "The credentials are valid, and no attempt failed since.",
    FAILING: "The credentials are still valid, but the last attempt to get new ones failed.",
    UNAVAILABLE: "There are no valid credentials.",
    STARTING: "The first attempt has not ended yet.",
}
"""The states of a role, with their meanings."""

SUCCESS = "success"
"""The code of a response of STS with credentials."""


class Client(NamedTuple):
    """A user that got credentials, and the process of the last request. None means unknown."""

    uid: int | None
    pid: int | None
    seconds_ago: float


class LastCall(NamedTuple):
    """
    The last call to STS.

    `code` is SUCCESS, the error code of STS, or a code of ours (ExchangeError). Without a response, `http_status` is
    None.
    """

    code: str
    http_status: int | None
    seconds_ago: float
    duration_seconds: float


class Failure(NamedTuple):
    """The reason why the last attempt failed. `needs_person` is true if retries cannot help."""

    code: str
    message: str
    needs_person: bool


class RoleStatus(NamedTuple):
    """
    The state of one role. Fields that end in `_in_seconds` count from now.

    `error` is None without an error. Elsewhere, None means that the value is unknown. `served` is the number of
    responses with credentials since the start.
    """

    name: str
    role_arn: str
    state: str
    expires_in_seconds: float | None
    next_refresh_in_seconds: float
    session_seconds: float | None
    token_expires_in_seconds: float | None
    clock_skew_seconds: float | None
    last_call: LastCall | None
    error: Failure | None
    served: int
    clients: tuple[Client, ...] = ()

    @property
    def is_available(self) -> bool:
        """Return whether the role has valid credentials."""
        return self.state in {READY, FAILING}


class DaemonStatus(NamedTuple):
    """The state of a daemon. `now` is the time on its wall clock, in Unix seconds."""

    version: str
    now: float
    uptime_seconds: float
    roles: tuple[RoleStatus, ...]

    @property
    def is_available(self) -> bool:
        """Return whether all roles have valid credentials."""
        return all(role.is_available for role in self.roles)


def state_of(*, is_valid: bool, error: Failure | None, is_starting: bool) -> str:
    """Return the state of a role."""
    if is_valid:
        return FAILING if error else READY
    return STARTING if is_starting else UNAVAILABLE


def without_access_keys(text: str) -> str:
    """Return the text with `***` instead of each access key ID, which an error of STS can quote."""
    if not any(prefix in text for prefix in _KEY_PREFIXES):
        return text
    import re  # noqa: PLC0415  few errors quote an access key ID

    return re.sub(rf"(?:{'|'.join(_KEY_PREFIXES)})[A-Z0-9]{{12,}}", HIDDEN, text)


def as_json(status: DaemonStatus) -> str:
    """Return the document as one line of ASCII."""
    return json.dumps(as_document(status))


def as_document(status: DaemonStatus) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": status.version,
        "now": instant_text(status.now),
        "started_at": instant_text(status.now - status.uptime_seconds),
        "uptime_seconds": _rounded(status.uptime_seconds),
        "is_available": status.is_available,
        "roles": [_role(role, status.now) for role in status.roles],
    }


def _role(role: RoleStatus, now: float) -> dict[str, Any]:
    return {
        "name": role.name,
        "role_arn": role.role_arn,
        "state": role.state,
        **_instant("expires", role.expires_in_seconds, now),
        **_instant("next_refresh", role.next_refresh_in_seconds, now),
        **_instant("token_expires", role.token_expires_in_seconds, now),
        "session_seconds": role.session_seconds,
        "clock_skew_seconds": _rounded(role.clock_skew_seconds),
        "last_call": None if role.last_call is None else _call(role.last_call, now),
        "error": None if role.error is None else _error(role.error),
        "served": role.served,
        "clients": [_client(client, now) for client in role.clients],
    }


def _instant(name: str, seconds: float | None, now: float) -> dict[str, Any]:
    at = None if seconds is None else instant_text(now + seconds)
    return {f"{name}_at": at, f"{name}_in_seconds": _rounded(seconds)}


def _call(call: LastCall, now: float) -> dict[str, Any]:
    return {
        "code": printable(call.code, max_length=MAX_TEXT),
        "http_status": call.http_status,
        "at": instant_text(now - call.seconds_ago),
        "seconds_ago": _rounded(call.seconds_ago),
        "duration_seconds": round(call.duration_seconds, 3),
    }


def _error(error: Failure) -> dict[str, Any]:
    code, message = (printable(text, max_length=MAX_TEXT) for text in (error.code, error.message))
    return {"code": code, "message": message, "needs_person": error.needs_person}


def _client(client: Client, now: float) -> dict[str, Any]:
    at = instant_text(now - client.seconds_ago)
    return {"uid": client.uid, "pid": client.pid, "last_served_at": at, "seconds_ago": _rounded(client.seconds_ago)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
