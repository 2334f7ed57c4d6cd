"""
Read CloudTrail records: who obtained a session, and which calls used the session. Pure.

Rule: a record in another form is skipped. Field names and forms follow the CloudTrail User Guide, "CloudTrail record
contents", and the IAM User Guide, "Logging IAM and AWS STS API calls".
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError

WEB_IDENTITY = "AssumeRoleWithWebIdentity"

ASSUME_ACTIONS = frozenset({WEB_IDENTITY, "AssumeRole"})
"""Actions of STS whose response has credentials: the exchange of a token, and a step of a chain."""


class Obtained(NamedTuple):
    """
    A record of new credentials.

    `subject` is the subject of the token, such as `system:serviceaccount:NAMESPACE:NAME`. `subject` is empty for a step
    of a chain, whose caller is in `caller_key_id`. Times are in Unix seconds, and `at` is 0 if it is not known.
    """

    at: float
    access_key_id: str
    role_arn: str
    session_name: str
    subject: str
    provider: str
    source_ip: str
    user_agent: str
    expires_at: float | None
    caller_key_id: str = ""


class Used(NamedTuple):
    """A call that was signed with credentials of a role session."""

    at: float
    access_key_id: str
    session_arn: str
    action: str
    source_ip: str
    user_agent: str
    error_code: str = ""


Record = Obtained | Used


def read_documents(text: str, where: str) -> list[Mapping[str, Any]]:
    """
    Return the records in a CloudTrail log file, in the response of LookupEvents, or in JSON lines.

    Raises ConfigurationError if a text that is not empty contains no records.
    """
    try:
        documents = [json.loads(text)]
    except (ValueError, RecursionError):
        documents = [_parsed(line) for line in text.splitlines() if line.strip()]
    found = [record for document in documents for record in _records_in(document)]
    if not found and text.strip():
        raise ConfigurationError(
            f"--cloudtrail is {where}: it has no CloudTrail records",
            fix="Use a log file of CloudTrail, the output of `aws cloudtrail lookup-events`, or one record per line",
            setting="--cloudtrail",
        )
    return found


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _records_in(document: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(document, dict):
        return
    if isinstance(document.get("Records"), list):
        yield from (each for each in document["Records"] if isinstance(each, dict))
    elif isinstance(document.get("Events"), list):
        inner = (_parsed(str(each.get("CloudTrailEvent"))) for each in document["Events"] if isinstance(each, dict))
        yield from (each for each in inner if isinstance(each, dict))
    elif "eventName" in document:
        yield document


def records(documents: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """Yield the records about credentials of role sessions."""
    for document in documents:
        if _text(document, "eventName") in ASSUME_ACTIONS and document.get("eventSource") == "sts.amazonaws.com":
            yield from _obtained(document)
        yield from _used(document)


def _obtained(document: Mapping[str, Any]) -> Iterator[Obtained]:
    identity, parameters = _part(document, "userIdentity"), _part(document, "requestParameters")
    response = _part(document, "responseElements")
    credentials = _part(response, "credentials")
    key = _text(credentials, "accessKeyId")
    if key:
        yield Obtained(
            at=_time(document.get("eventTime")) or 0.0,
            access_key_id=key,
            role_arn=_text(parameters, "roleArn"),
            session_name=_text(parameters, "roleSessionName"),
            subject=_text(response, "subjectFromWebIdentityToken") or _subject(identity),
            provider=_text(identity, "identityProvider"),
            source_ip=_text(document, "sourceIPAddress"),
            user_agent=_text(document, "userAgent"),
            expires_at=_time(credentials.get("expiration")),
            caller_key_id=_text(identity, "accessKeyId"),
        )


def _subject(identity: Mapping[str, Any]) -> str:
    return _text(identity, "userName") if identity.get("type") == "WebIdentityUser" else ""


def _used(document: Mapping[str, Any]) -> Iterator[Used]:
    identity = _part(document, "userIdentity")
    if identity.get("type") == "AssumedRole" and (key := _text(identity, "accessKeyId")):
        service = _text(document, "eventSource").removesuffix(".amazonaws.com")
        yield Used(
            at=_time(document.get("eventTime")) or 0.0,
            access_key_id=key,
            session_arn=_text(identity, "arn"),
            action=f"{service}:{_text(document, 'eventName')}",
            source_ip=_text(document, "sourceIPAddress"),
            user_agent=_text(document, "userAgent"),
            error_code=_text(document, "errorCode"),
        )


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _time(value: Any) -> float | None:
    """
    Return the time in Unix seconds, or None if it has neither of CloudTrail's forms.

    CloudTrail writes eventTime in RFC 3339, and the expiration in the form `Nov 28, 2026, 1:05:00 PM`.
    """
    for read in (datetime.fromisoformat, _of_expiration):
        try:
            return read(value).astimezone(UTC).timestamp()
        except (TypeError, ValueError, OverflowError):
            continue
    return None


def _of_expiration(value: str) -> datetime:
    return datetime.strptime(value, "%b %d, %Y, %I:%M:%S %p").replace(tzinfo=UTC)
