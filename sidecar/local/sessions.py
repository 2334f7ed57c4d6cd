"""
Store the role sessions of STS in memory. After a restart, clients request new credentials.

Rule: the table contains at most MAX_SESSIONS. When the table is full, the session that expires first is removed.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sidecar.local.roles import IamRole
from sidecar.local.session_policy import SessionPolicy
from sidecar.local.session_size import PLAIN_TOKEN_BYTES, Tags

MAX_SESSIONS = 10_000
"""Maximum number of sessions in memory, about 10 MiB. A test cluster with hourly renewals has some hundreds."""

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Session:
    """One session of a role, with its credentials."""

    role: IamRole
    name: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime
    source_identity: str | None = None
    session_policy: SessionPolicy | None = None
    transitive_tags: Tags = ()

    @property
    def arn(self) -> str:
        """The assumed-role ARN, which does not contain the role's path."""
        return f"arn:aws:sts::{self.role.account_id}:assumed-role/{self.role.name}/{self.name}"

    @property
    def user_id(self) -> str:
        return f"{self.role.id}:{self.name}"


def new_session(
    role: IamRole,
    name: str,
    *,
    now: float,
    seconds: int,
    random_bytes: RandomBytes,
    token_characters: int = PLAIN_TOKEN_BYTES,
) -> Session:
    """Return a new session that expires `seconds` after `now` (Unix seconds), rounded down to a whole second."""
    return Session(
        role=role,
        name=name,
        access_key_id="ASIA" + base64.b32encode(random_bytes(10)).decode("ascii"),
        secret_access_key=base64.b64encode(random_bytes(30)).decode("ascii"),
        session_token=base64.b64encode(random_bytes(token_characters)).decode("ascii")[:token_characters],
        expires_at=datetime.fromtimestamp(int(now) + seconds, UTC),
    )


class SessionTable:
    """The sessions by access key id."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        if len(self._sessions) >= MAX_SESSIONS:
            first = min(self._sessions.values(), key=lambda session: session.expires_at)
            del self._sessions[first.access_key_id]
        self._sessions[session.access_key_id] = session

    def get(self, access_key_id: str) -> Session | None:
        return self._sessions.get(access_key_id)
