"""Format sessions as text for people and as JSON for programs. Pure."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sidecar.attribution.sessions import Session, actions_of
from sidecar.clock import instant_text
from sidecar.printable import printable, printable_json

VERSION = 1
"""Version of the JSON document. It increases when a name is removed or changes its meaning."""

MAX_ACTIONS = 10
"""Maximum number of actions that the text lists for one session."""


def as_json(sessions: Sequence[Session]) -> str:
    document = {"version": VERSION, "sessions": [_document(session) for session in sessions]}
    return printable_json(json.dumps(document, indent=2))


def _document(session: Session) -> dict[str, Any]:
    return {
        "access_key_id": session.access_key_id,
        "role_arn": session.role_arn,
        "session_name": session.session_name,
        "pod": None if session.pod is None else session.pod._asdict(),
        "pod_source": session.pod_source or None,
        "other_pods": [pod._asdict() for pod in session.other_pods],
        "service_account": session.service_account or None,
        "provider": session.provider or None,
        "obtained_at": _time(session.obtained_at),
        "expires_at": _time(session.expires_at),
        "source_ip": session.source_ip or None,
        "user_agent": session.user_agent or None,
        "caller_access_key_id": session.chain or None,
        "clients": [
            {"at": _time(each.at), "peer": each.peer, "uid": each.uid, "pid": each.pid, "count": each.responses}
            for each in session.served
        ],
        "actions": [
            {"action": action, "calls": calls, "errors": errors} for action, calls, errors in actions_of(session.uses)
        ],
        "foreign_uses": [
            {"at": _time(each.at), "action": each.action, "source_ip": each.source_ip, "user_agent": each.user_agent}
            for each in session.foreign_uses
        ],
    }


def as_text(sessions: Sequence[Session]) -> str:
    return "\n\n".join("\n".join(printable(line) for line in _lines(session)) for session in sessions)


def _lines(session: Session) -> Iterator[str]:
    yield f"Access key {session.access_key_id}"
    yield f"  Pod              {_pod(session)}"
    if session.other_pods:
        others = ", ".join(map(str, session.other_pods))
        yield f"  WARNING          the logs of other Pods contain this key too, so a log may be false: {others}"
    if session.service_account:
        yield f"  ServiceAccount   {session.service_account}, signed by {session.provider or 'its cluster'}"
    yield f"  role             {session.role_arn or 'not known'}"
    if session.session_name:
        yield f"  session name     {session.session_name}"
    first, last = (_time(instant) or "not known" for instant in (session.obtained_at, session.expires_at))
    yield f"  valid            {first} to {last}"
    if session.source_ip:
        yield f"  exchanged by     {session.source_ip}, {session.user_agent or 'no user agent'}"
    if session.chain:
        yield f"  chained from     access key {session.chain}"
    yield from _clients(session)
    yield from _actions(session)


def _pod(session: Session) -> str:
    if session.pod is None:
        return "not known: add the log of the sidecars, or the CloudTrail records of the exchange"
    return f"{session.pod} (from the {session.pod_source})"


def _clients(session: Session) -> Iterator[str]:
    if session.served:
        uids = sorted({str(each.uid) for each in session.served if each.uid is not None})
        total = sum(each.responses for each in session.served)
        users = f" to user {', '.join(uids)}" if uids else ""
        last = _time(max(each.at for each in session.served)) or "an unknown time"
        yield f"  served           {total} times{users}, last at {last}"


def _actions(session: Session) -> Iterator[str]:
    found = list(actions_of(session.uses))
    for action, calls, errors in found[:MAX_ACTIONS]:
        yield f"  used for         {action}: {calls} calls{f', {errors} errors' if errors else ''}"
    if len(found) > MAX_ACTIONS:
        yield f"  used for         {len(found) - MAX_ACTIONS} more actions (--json lists them)"
    for address in sorted({use.source_ip for use in session.foreign_uses}):
        yield f"  WARNING          used from {address}, but the token was exchanged from {session.source_ip}"


def _time(instant: float | None) -> str | None:
    """Return the time, or None if it is not known. The readers of records write 0 for an unknown time."""
    return instant_text(instant) if instant else None
