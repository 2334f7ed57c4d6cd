"""
Hold the temporary credentials of an IAM role in one frozen value.

Rule: credentials come from one STS response and are replaced as a whole. No field is ever changed or combined with a
field of other credentials. `repr` shows no secret.
"""

from datetime import datetime
from typing import NamedTuple

from sidecar.clock import instant_text


class Credentials(NamedTuple):
    """
    The credentials that STS returned. `expires_at` is in UTC, truncated to whole seconds.

    `token_bytes` is the size of the session token, and `token_percent` is that size as a percentage of the maximum. STS
    reports both since September 2026 (SessionTokenSize, SessionTokenUtilization). Without a report they are None.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    role_arn: str
    account_id: str
    token_bytes: int | None = None
    token_percent: int | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id}, role_arn={self.role_arn!r}, expires_at={self.expiration})"

    @property
    def expiration(self) -> str:
        """Return the instant of expiration in the only format that every SDK can parse."""
        return instant_text(self.expires_at)
