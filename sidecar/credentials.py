"""
Hold the temporary credentials of an IAM role in one frozen value.

Rule: credentials come from one STS response and are replaced as a whole. No field is ever changed or combined with a
field of other credentials. `repr` shows no secret.
"""

from dataclasses import dataclass, field
from datetime import datetime

from sidecar.clock import instant_text


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    The credentials that STS returned. `expires_at` is in UTC, truncated to whole seconds.

    `token_bytes` is the size of the session token, and `token_percent` is that size as a percentage of the maximum. STS
    reports both since September 2026 (SessionTokenSize, SessionTokenUtilization). Without a report they are None.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime
    role_arn: str
    account_id: str
    token_bytes: int | None = None
    token_percent: int | None = None

    @property
    def expiration(self) -> str:
        """Return the instant of expiration in the only format that every SDK can parse."""
        return instant_text(self.expires_at)
