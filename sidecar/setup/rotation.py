"""
Decide the next step of a rotation of a cluster's signing keys. Pure.

A rotation publishes the new key, waits until STS knows the key, signs with the key, waits until the tokens of the old
key have expired, and removes the old key.

Rule: a key stays published while a token that it signed can be valid. A fact that is unknown never allows a removal.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.errors import SidecarError

MARGIN_SECONDS = 300
"""Time that is added to the lifetime of old tokens, for clocks that differ."""

VERSION = 1
"""Version of the record's schema."""


class Limits(NamedTuple):
    """
    The durations that a rotation waits.

    `cache_seconds` is the time until STS knows a published key. `token_seconds` is the longest lifetime of a token.
    """

    cache_seconds: float
    token_seconds: float


class Step(StrEnum):
    """The next step of a rotation. The command makes the steps in OURS, and the operator makes the steps in YOURS."""

    PUBLISH = "publish"
    RECORD = "record"
    REMOVE = "remove"
    ADD_TO_API_SERVERS = "add-to-api-servers"
    SIGN = "sign"
    REMOVE_FROM_API_SERVER = "remove-from-api-server"
    NAME_KEY = "name-key"
    WAIT_FOR_API_SERVERS = "wait-for-api-servers"
    WAIT_FOR_STS = "wait-for-sts"
    WAIT_FOR_TOKENS = "wait-for-tokens"
    NONE = "none"


OURS = (Step.PUBLISH, Step.RECORD, Step.REMOVE)

YOURS = (Step.ADD_TO_API_SERVERS, Step.SIGN, Step.REMOVE_FROM_API_SERVER, Step.NAME_KEY)

History = Mapping[str, float | None]
"""For each key that was seen signing, the time since which no API server signs with the key, or None while one does."""


@dataclass(frozen=True, slots=True)
class Observation:
    """
    The facts about a cluster's keys at one moment. Keys are named by their IDs.

    `own` are the keys that an API server publishes inside the cluster, and `accepted` are those that every API server
    publishes. `stored` are the keys in the bucket since `stored_at`, and `served` are the keys at the issuer's URL.
    `signing` are the keys with which API servers sign. `started_at` is the start of the newest API server. It is None
    if not every API server responded. `is_discoverable` is false if the bucket has no discovery document. `now` is the
    time on S3's clock, and `clock` the latest time on the API servers' clocks.
    """

    own: frozenset[str]
    accepted: frozenset[str]
    stored: frozenset[str]
    stored_at: float
    served: frozenset[str]
    signing: frozenset[str]
    started_at: float | None
    now: float
    is_discoverable: bool = True
    clock: float = 0.0

    @property
    def lead_seconds(self) -> float:
        """Return the time by which the clock of an API server is ahead of S3's clock, or 0 if it is within MARGIN."""
        lead = self.clock - self.now
        return lead if lead > MARGIN_SECONDS else 0.0


class Decision(NamedTuple):
    """The next step, the keys that it concerns, and the time until which the operator must wait, or None."""

    step: Step
    keys: tuple[str, ...] = ()
    until: float | None = None


def updated_history(seen: Observation, history: History, retired: Collection[str] = ()) -> History:
    """
    Return the history after an observation. `retired` are keys that the operator declares as old.

    A key stops signing only if every API server responded and none of them signs with the key. If the clock of an API
    server is ahead, its last tokens expire later too, so the time of its clock counts.
    """
    signing = dict.fromkeys(seen.signing)
    known = {kid: at for kid, at in history.items() if kid in seen.stored | seen.own} | dict.fromkeys(
        kid for kid in retired if kid not in history
    )
    if seen.started_at is not None:
        stopped_at = min(seen.now + seen.lead_seconds, MAX_TIME)
        known = {kid: stopped_at if at is None else at for kid, at in known.items()}
    return known | signing


def decide(seen: Observation, history: History, updated: History, limits: Limits) -> Decision:
    """Return the next step. `history` is the stored history, and `updated` the history after this observation."""
    if missing := seen.own - seen.stored if seen.is_discoverable else seen.own:
        return _decision(Step.PUBLISH, missing)
    if updated != history:
        return _decision(Step.RECORD, _changed(history, updated))
    idle = seen.stored - seen.signing
    old = {kid for kid in idle if kid in updated}
    if old:
        return _about_old_keys(seen, updated, old, limits)
    if foreign := idle - seen.own:
        return _decision(Step.NAME_KEY, foreign)
    if idle:
        return _about_new_keys(seen, idle, limits)
    return Decision(Step.NONE)


def expires_at(seen: Observation, history: History, kid: str, limits: Limits) -> float | None:
    """
    Return the time at which the last token of an old key has expired, or None if an API server may still sign with it.

    An API server reads its signing key when it starts. Therefore the newest start counts too: before it, the API server
    may have signed with the old key again.
    """
    stopped_at = history.get(kid)
    if stopped_at is None or seen.started_at is None:
        return None
    return max(stopped_at, seen.started_at) + limits.token_seconds + MARGIN_SECONDS


def _about_old_keys(seen: Observation, history: History, old: Collection[str], limits: Limits) -> Decision:
    ends = {kid: expires_at(seen, history, kid, limits) for kid in old}
    known = {kid: at for kid, at in ends.items() if at is not None}
    if len(known) < len(ends):
        return _decision(Step.WAIT_FOR_API_SERVERS, ends.keys() - known.keys())
    expired = {kid for kid, at in known.items() if at <= seen.now}
    if unused := expired - seen.own:
        return _decision(Step.REMOVE, unused)
    if expired:
        return _decision(Step.REMOVE_FROM_API_SERVER, expired)
    return _decision(Step.WAIT_FOR_TOKENS, known, min(known.values()))


def _about_new_keys(seen: Observation, new: Collection[str], limits: Limits) -> Decision:
    """Return the next step for keys that never signed. Every API server must accept a key before one signs with it."""
    known_at = seen.stored_at + limits.cache_seconds
    if known_at > seen.now:
        return _decision(Step.WAIT_FOR_STS, new, known_at)
    if hidden := frozenset(new) - seen.served:
        return _decision(Step.WAIT_FOR_STS, hidden)
    if seen.started_at is None:
        return _decision(Step.WAIT_FOR_API_SERVERS, new)
    if partial := frozenset(new) - seen.accepted:
        return _decision(Step.ADD_TO_API_SERVERS, partial)
    return _decision(Step.SIGN, new)


def _decision(step: Step, keys: Collection[str], until: float | None = None) -> Decision:
    return Decision(step, tuple(sorted(keys)), until)


def _changed(history: History, updated: History) -> set[str]:
    """Return the keys with different entries."""
    missing = object()
    return {kid for kid in history.keys() | updated.keys() if history.get(kid, missing) != updated.get(kid, missing)}


def read_record(content: bytes, place: str) -> History:
    """
    Return the history in a stored record.

    Raises SidecarError if the content is not a record that this version can read.
    """
    try:
        document = json.loads(content)
        signed = {VERSION: document["signed"]}[document["version"]]
        return {str(kid): _read_time(at) for kid, at in signed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise SidecarError(
            f"{place} is not a record of a rotation that this version can read",
            fix="Delete the object. The waiting time for old tokens then starts again",
        ) from exc


def too_early(seen: Observation, history: History, limits: Limits) -> frozenset[str]:
    """Return the keys that no API server accepts any more, although tokens of them can be valid."""
    ends = {kid: expires_at(seen, history, kid, limits) for kid in history.keys() - seen.own}
    return frozenset(kid for kid, end in ends.items() if end is not None and end > seen.now)


MAX_TIME = 253_402_300_799.0
"""The last second of the year 9999, which is the largest time that a record can contain."""


def _read_time(at: Any) -> float | None:
    """
    Return a time in a record.

    Raises ValueError if it is not a number of seconds since the epoch.
    """
    if at is not None and (isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at <= MAX_TIME):
        raise ValueError("not a time")
    return None if at is None else float(at)


def written_record(history: History) -> bytes:
    """Return the record of a history, as JSON."""
    return (json.dumps({"version": VERSION, "signed": dict(sorted(history.items()))}, indent=2) + "\n").encode()
