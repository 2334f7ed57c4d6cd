"""
Read the daemon's log lines, also in the forms in which log collectors store them. Pure.

Rules. A line in another form is counted and skipped, because a log file often has lines of other programs. The Pod's
name comes from the path of the kubelet's log file, from `kubectl logs --prefix`, or from the collector. A name inside
the program's own line counts only if no such source names the Pod, because an application can write any line.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

OBTAINED = frozenset({"credentials_refreshed", "credentials_restored"})
"""Events that show that a sidecar has the credentials of the logged access key."""

SERVED = "credentials_served"
"""Event that shows that a client got credentials from the sidecar."""

MAX_LINE_CHARACTERS = 256 * 1024

MAX_NUMBER = 2**53
"""Limit for numbers, larger than every number that the daemon writes. Other programs can write any number."""

_CRI = re.compile(r"\S+ (?:stdout|stderr) [FP] (?P<text>.*)")
"""Pattern for a line of the kubelet's log files (Kubernetes design proposal, CRI log format)."""

_PREFIX = re.compile(r"\[pod/(?P<pod>[^/\]]+)/[^\]]*\] (?P<text>.*)")
"""Pattern for a line of `kubectl logs --prefix`."""

_PATH = re.compile(r"(?:.*/)?(?P<namespace>[a-z0-9-]+)_(?P<pod>[a-z0-9.-]+)_[0-9a-f-]{32,36}/[^/]+/[^/]*")
"""Pattern for the path of a log file of the kubelet: NAMESPACE_POD_UID/CONTAINER/RESTARTS.log."""

_WRAPPED = ("log", "message", "msg", "line", "body")
"""Keys under which collectors such as Fluent Bit, Vector and Loki store the line of the program."""


class PodName(NamedTuple):
    """A Pod. `namespace` is empty if it is not known."""

    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class LogRecord(NamedTuple):
    """
    A log line about credentials. `pod` is None if neither the line nor the path names the Pod.

    `at` and `expires_at` are in Unix seconds, and `at` is 0 if it is not known. `responses` is the number of responses
    that the line stands for (sidecar/serving/audit.py).
    """

    event: str
    at: float
    access_key_id: str
    role_arn: str
    role_name: str
    expires_at: float | None
    pod: PodName | None
    peer: str = ""
    uid: int | None = None
    pid: int | None = None
    responses: int = 1


class LogFile(NamedTuple):
    """The records of a file, and the number of its lines that are not log lines of irsa-sidecar."""

    records: tuple[LogRecord, ...]
    skipped: int


def read_log(lines: Iterable[str], path: str = "") -> LogFile:
    """Return the records about credentials. `path` is the file's path, which can name the Pod."""
    match = _PATH.fullmatch(path)
    of_path = PodName(match["pod"], match["namespace"]) if match else None
    records: list[LogRecord] = []
    skipped = 0
    for line in lines:
        found = _unwrapped(line[:MAX_LINE_CHARACTERS].strip())
        if found is None:
            skipped += bool(line.strip())
        elif record := _record(found[0], of_path or found[1]):
            records.append(record)
    return LogFile(tuple(records), skipped)


def _unwrapped(line: str) -> tuple[Mapping[str, Any], PodName | None] | None:
    """Return the daemon's document, and its Pod or None. Return None for a line that is not the daemon's."""
    pod: PodName | None = None
    if match := _PREFIX.fullmatch(line):
        pod, line = PodName(match["pod"]), match["text"]
    if match := _CRI.fullmatch(line):
        line = match["text"]
    document = _parsed(line)
    for _ in range(2):  # a collector's record can contain a CRI line
        if document is None or "event" in document:
            break
        pod = pod or _pod_of(document)
        document = _inner(document)
    return None if document is None or "event" not in document else (document, pod or _pod_of(document))


def _parsed(text: str) -> Mapping[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _inner(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for key in _WRAPPED:
        value = document.get(key)
        if isinstance(value, dict):
            return value
        if isinstance(value, str):
            match = _CRI.fullmatch(value.strip())
            return _parsed(match["text"] if match else value)
    return None


def _pod_of(document: Mapping[str, Any]) -> PodName | None:
    """
    Return the Pod in a collector's metadata, or None.

    The metadata is under `kubernetes` in Fluent Bit and Vector. Loki has plain labels.
    """
    for place in (document.get("kubernetes"), document.get("labels"), document):
        if isinstance(place, dict):
            name = place.get("pod_name") or place.get("pod")
            if isinstance(name, str):
                namespace = place.get("namespace_name") or place.get("pod_namespace") or place.get("namespace")
                return PodName(name, namespace if isinstance(namespace, str) else "")
    return None


def _record(document: Mapping[str, Any], pod: PodName | None) -> LogRecord | None:
    event, key = document.get("event"), document.get("access_key_id")
    if not isinstance(key, str) or not isinstance(event, str) or event not in {*OBTAINED, SERVED}:
        return None
    return LogRecord(
        event=event,
        at=_seconds(document.get("time")) or 0.0,
        access_key_id=key,
        role_arn=_text(document.get("role_arn")),
        role_name=_text(document.get("role_name")),
        expires_at=_seconds(document.get("expiration")),
        pod=pod,
        peer=_text(document.get("peer")),
        uid=_number(document.get("uid")),
        pid=_number(document.get("pid")),
        responses=_number(document.get("count")) or 1,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value < MAX_NUMBER else None


def _seconds(value: Any) -> float | None:
    """Return the time in Unix seconds, or None if it is invalid, or if its year in UTC is not in 1 to 9999."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def joined(files: Iterable[LogFile]) -> Iterator[LogRecord]:
    """Yield the records of all files."""
    for file in files:
        yield from file.records
