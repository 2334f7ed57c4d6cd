"""
Join log records and CloudTrail records to sessions, and name the Pod of each session. Pure.

Rule: a session keeps the source of its Pod's name, because the client chooses the session name, but the cluster signs
the token's subject. The Pod's name comes from the log of its sidecar. Without a log, it comes from the session name, if
that name begins with the namespace in the signed subject.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from sidecar.attribution.cloudtrail import Obtained, Record, Used
from sidecar.attribution.log_lines import OBTAINED, LogRecord, PodName
from sidecar.attribution.target import Target

_SUBJECT = "system:serviceaccount:"


class Session(NamedTuple):
    """
    The use of one access key.

    `pod` is None if the Pod is not known. Otherwise, `pod_source` is `log` or `session name`. `other_pods` are the
    other Pods whose logs contain the key, because any program can write a line about a key. `service_account` is from
    the signed subject. `chain` is the access key that assumed this role in a chain, or empty.
    """

    access_key_id: str
    role_arn: str = ""
    session_name: str = ""
    pod: PodName | None = None
    pod_source: str = ""
    other_pods: tuple[PodName, ...] = ()
    service_account: str = ""
    provider: str = ""
    obtained_at: float | None = None
    expires_at: float | None = None
    source_ip: str = ""
    user_agent: str = ""
    chain: str = ""
    served: tuple[LogRecord, ...] = ()
    uses: tuple[Used, ...] = ()

    @property
    def foreign_uses(self) -> tuple[Used, ...]:
        """
        The calls from an IP address that differs from the address of the exchange, except calls by AWS services.

        The result is empty if the address of the exchange is not known.
        """
        if not self.source_ip:
            return ()
        return tuple(use for use in self.uses if use.source_ip not in {self.source_ip, ""} and not _is_service(use))


def _is_service(use: Used) -> bool:
    """Return whether an AWS service made the call. CloudTrail then has the service's name as the address."""
    return use.source_ip.endswith(".amazonaws.com") or use.source_ip == "AWS Internal"


def find_sessions(target: Target, logs: Iterable[LogRecord], trail: Iterable[Record]) -> tuple[Session, ...]:
    """
    Return the sessions that match the target, the oldest first.

    If a session comes from a chain, the result also contains the session that assumed its role, if a record names it.
    """
    own_logs, own_trail = _by_key(logs), _by_key(trail)
    by_key = {key: _session(key, own_logs.get(key, []), own_trail.get(key, [])) for key in {**own_logs, **own_trail}}
    matching = [session for session in by_key.values() if _matches(session, target)]
    callers = [by_key[session.chain] for session in matching if session.chain in by_key]
    found = {session.access_key_id: session for session in [*callers, *matching]}
    return tuple(sorted(found.values(), key=lambda session: session.obtained_at or 0.0))


_AnyRecord = TypeVar("_AnyRecord", LogRecord, Record)


def _by_key(records: Iterable[_AnyRecord]) -> dict[str, list[_AnyRecord]]:
    found: dict[str, list[_AnyRecord]] = {}
    for record in records:
        found.setdefault(record.access_key_id, []).append(record)
    return found


def _session(key: str, own: Sequence[LogRecord], trail: Sequence[Record]) -> Session:
    """Return the session of one access key. All records have this key."""
    obtained = next((each for each in trail if isinstance(each, Obtained)), None)
    uses = tuple(sorted(each for each in trail if isinstance(each, Used)))
    logged = next((record for record in own if record.event in OBTAINED), None)
    role_arn, session_name = _from_uses(uses)
    served = tuple(record for record in own if record.event not in OBTAINED)
    session = Session(key, role_arn, session_name, served=served, uses=uses)
    if logged is not None:
        session = session._replace(obtained_at=logged.at, expires_at=logged.expires_at)
        session = session._replace(role_arn=logged.role_arn or session.role_arn)
    if obtained is not None:
        session = _with_trail(session, obtained)
    return _with_pod(session, [record.pod for record in own if record.pod is not None])


def _from_uses(uses: Sequence[Used]) -> tuple[str, str]:
    """Return the role's ARN and the session name from …:assumed-role/ROLE/SESSION. Without a call, both are empty."""
    if not uses:
        return "", ""
    prefix, _, rest = uses[0].session_arn.partition(":assumed-role/")
    role, _, session = rest.partition("/")
    return f"{prefix.replace(':sts:', ':iam:')}:role/{role}" if role else "", session


def _with_trail(session: Session, obtained: Obtained) -> Session:
    is_service_account = obtained.subject.startswith(_SUBJECT)
    return session._replace(
        role_arn=obtained.role_arn or session.role_arn,
        session_name=obtained.session_name or session.session_name,
        service_account=obtained.subject.removeprefix(_SUBJECT).replace(":", "/", 1) if is_service_account else "",
        provider=obtained.provider,
        obtained_at=obtained.at or session.obtained_at,
        expires_at=obtained.expires_at or session.expires_at,
        source_ip=obtained.source_ip,
        user_agent=obtained.user_agent,
        chain=obtained.caller_key_id,
    )


def _with_pod(session: Session, logged: Sequence[PodName]) -> Session:
    if logged:
        first, *others = _distinct(logged)
        return session._replace(pod=first, pod_source="log", other_pods=tuple(others))
    namespace = session.service_account.partition("/")[0]
    if namespace and session.session_name.startswith(f"{namespace}."):
        name = session.session_name.removeprefix(f"{namespace}.")
        return session._replace(pod=PodName(name, namespace), pod_source="session name")
    return session


def _distinct(pods: Sequence[PodName]) -> list[PodName]:
    """
    Return each Pod once, Pods with a namespace first.

    A Pod without a namespace is omitted if another Pod has the same name and a namespace.
    """
    complete = list(dict.fromkeys(pod for pod in pods if pod.namespace))
    names = {pod.name for pod in complete}
    return complete + list(dict.fromkeys(pod for pod in pods if not pod.namespace and pod.name not in names))


def _matches(session: Session, target: Target) -> bool:
    wanted = (
        (target.access_key_id, session.access_key_id),
        (target.role_name, session.role_arn.rpartition("/")[2]),
        (target.session_name, session.session_name),
    )
    return all(want in {"", value} for want, value in wanted)


def actions_of(uses: Iterable[Used]) -> Iterator[tuple[str, int, int]]:
    """Yield each action with the number of its calls and of its errors, the most frequent first."""
    calls: dict[str, list[Used]] = {}
    for use in uses:
        calls.setdefault(use.action, []).append(use)
    for action, some in sorted(calls.items(), key=lambda item: (-len(item[1]), item[0])):
        yield action, len(some), sum(bool(use.error_code) for use in some)
