"""
Encode a role's credentials for a file, and decode them in the next process of the same Pod. Pure.

Rule: a file is used whole or not at all. A file is used only if both clocks show valid credentials, the machine has not
rebooted, and the role's configuration is the same. A checksum finds any damage. The lifetime is never extended: of the
two remaining lifetimes by the two clocks, the shorter one counts.

The monotonic clock of one process has no meaning for the next one. Instants are therefore stored as seconds since the
machine booted (CLOCK_BOOTTIME), together with the boot's id (/proc/sys/kernel/random/boot_id).
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NamedTuple, TypeVar, get_type_hints

from sidecar.clock import Instant
from sidecar.credentials import Credentials
from sidecar.errors import SidecarError
from sidecar.refresh.max_duration import MaxDuration
from sidecar.refresh.schedule import CLOCK_STEP_SECONDS, Schedule
from sidecar.role import Role
from sidecar.sts.expiration import MAX_SESSION_SECONDS
from sidecar.sts.settings import StsSettings

MAX_STATE_BYTES = 512 * 1024
"""Maximum size of a file. STS's response has at most 256 KiB (client.py), and JSON may double the size."""

FILE_PREFIX, FILE_SUFFIX = "role-", ".state"

MAX_NUMBER = 2.0**53
"""Limit for numbers, larger than every saved number. It also excludes infinity and NaN."""

MAX_DELAY_SECONDS = 600.0
"""Maximum delay of an attempt that is planned after the credentials expire (schedule.py, BACK_OFFS)."""

_FORMAT = "irsa-sidecar state 1"

_DAMAGED = "it is damaged, or another version wrote it"

_Kind = TypeVar("_Kind")


class UnusableStateError(SidecarError):
    """An error for a saved file that cannot be used. Its text is the reason, and contains no content of the file."""


class Saved(NamedTuple):
    """
    The saved state of one role. In a file, the monotonic part of every instant is in seconds since boot.

    `health` has the fields of refresher.Health that a restart does not change.
    """

    credentials: Credentials
    expires: Instant
    arrived_at: float
    schedule: Schedule
    max_duration: MaxDuration
    health: Mapping[str, Any]

    def shifted(self, seconds: float) -> "Saved":
        """Return this state with the monotonic part of every instant moved by `seconds`."""
        plan = self.schedule
        return self._replace(
            expires=_shifted(self.expires, seconds),
            schedule=Schedule(
                due=_shifted(plan.due, seconds),
                decided=_shifted(plan.decided, seconds),
                failures=plan.failures,
                attempted_at=None if plan.attempted_at is None else plan.attempted_at + seconds,
                wants_new_token=plan.wants_new_token,
            ),
            max_duration=MaxDuration(
                self.max_duration.granted_seconds,
                self.max_duration.refused_seconds,
                self.max_duration.refused_at + seconds,
            ),
        )


class Owner(NamedTuple):
    """The role and the boot for which a file is valid: the digest of the role's configuration, and the boot's id."""

    role_digest: str
    boot_id: str


def file_name(role_name: str) -> str:
    """Return the name of the role's file: a digest, which is safe in a path and distinguishes upper and lower case."""
    return f"{FILE_PREFIX}{hashlib.sha256(role_name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}{FILE_SUFFIX}"


def role_digest(role: Role, sts: StsSettings) -> str:
    """Return the digest of the settings that determine the credentials, without the settings for serving them."""
    requested = role._replace(authorization_token_file=None, allow_uids=None, containers=None)
    text = json.dumps([requested, sts.region, sts.endpoint_url])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def encode(saved: Saved, owner: Owner, now: Instant) -> str:
    """Return the file's content in ASCII: a line with a checksum, and a line of JSON."""
    plan, max_duration = saved.schedule, saved.max_duration
    body = json.dumps(
        {
            "owner": owner,
            "saved_at": now,
            "credentials": {**saved.credentials._asdict(), "expires_at": saved.credentials.expires_at.timestamp()},
            "expires": saved.expires,
            "arrived_at": saved.arrived_at,
            "schedule": plan._asdict(),
            "max_duration": max_duration._asdict(),
            "health": dict(saved.health),
        }
    )
    return f"{_FORMAT} {_checksum(body)}\n{body}\n"


def decode(data: bytes, owner: Owner, now: Instant) -> Saved:
    """
    Return the content of a file.

    Raises UnusableStateError if the file is damaged, or its credentials are not the owner's or not valid by both
    clocks.
    """
    body = _checked_body(data)
    try:
        found = json.loads(body)
        saved, saved_at = _saved(found), Instant(*map(_number, found["saved_at"]))
        saved_for = Owner(*found["owner"])
    except (KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as exc:
        raise UnusableStateError(_DAMAGED) from exc
    _check_owner(saved_for, owner)
    _check_time(saved, saved_at, now)
    return saved


def _checked_body(data: bytes) -> str:
    head, _, body = data.partition(b"\n")
    text = body.removesuffix(b"\n").decode("ascii", "replace")
    if head.decode("ascii", "replace") != f"{_FORMAT} {_checksum(text)}":
        raise UnusableStateError("it is damaged, truncated, or another version wrote it")
    return text


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("ascii", "replace")).hexdigest()


def _saved(found: Mapping[str, Any]) -> Saved:
    credentials, plan = dict(found["credentials"]), dict(found["schedule"])
    credentials["expires_at"] = datetime.fromtimestamp(_number(credentials["expires_at"]), UTC)
    plan["due"], plan["decided"] = (Instant(*map(_number, plan[name])) for name in ("due", "decided"))
    return Saved(
        credentials=whole(Credentials, credentials),
        expires=Instant(*map(_number, found["expires"])),
        arrived_at=_number(found["arrived_at"]),
        schedule=whole(Schedule, plan),
        max_duration=whole(MaxDuration, found["max_duration"]),
        health=dict(found["health"]),
    )


def whole(kind: type[_Kind], found: Mapping[str, Any]) -> _Kind:
    """
    Return a value of the type `kind` from the fields in `found`.

    Raises UnusableStateError unless exactly the type's fields are present, each with a value of the right type.
    """
    types = get_type_hints(kind)
    if set(found) != set(types) or not all(_is_of_type(found[name], types[name]) for name in types):
        raise UnusableStateError(_DAMAGED)
    return kind(**found)


def _is_of_type(value: Any, kind: Any) -> bool:
    """Return whether the value has this type. A number must also be finite and not too large."""
    is_number = isinstance(value, (int, float))
    return isinstance(value, kind) and not (is_number and not abs(value) < MAX_NUMBER)


def _check_owner(saved_for: Owner, owner: Owner) -> None:
    if saved_for.boot_id != owner.boot_id:
        raise UnusableStateError("the machine has been restarted since")
    if saved_for.role_digest != owner.role_digest:
        raise UnusableStateError("the role's configuration has changed since")


def _check_time(saved: Saved, saved_at: Instant, now: Instant) -> None:
    """
    Raise UnusableStateError unless the times in the file are possible and the credentials are valid.

    A correction of the wall clock by at most CLOCK_STEP_SECONDS is accepted. The monotonic clock never goes back.
    """
    if saved_at.monotonic > now.monotonic or saved_at.wall > now.wall + CLOCK_STEP_SECONDS:
        raise UnusableStateError("one of the two clocks is before the time at which the file was written")
    if _remaining_seconds(saved, saved_at) > MAX_SESSION_SECONDS:
        raise UnusableStateError("its credentials would be valid for longer than any session")
    if _seconds_until(saved.schedule.due, saved_at) > max(_remaining_seconds(saved, saved_at), MAX_DELAY_SECONDS):
        raise UnusableStateError("its next refresh would come after its credentials have expired")
    if _remaining_seconds(saved, now) <= 0:
        raise UnusableStateError("its credentials have expired")


def _remaining_seconds(saved: Saved, now: Instant) -> float:
    return _seconds_until(saved.expires, now)


def _seconds_until(instant: Instant, now: Instant) -> float:
    """Return the seconds to the instant, by the clock that reaches it first."""
    return min(instant.wall - now.wall, instant.monotonic - now.monotonic)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _shifted(instant: Instant, seconds: float) -> Instant:
    return Instant(instant.wall, instant.monotonic + seconds)
