"""Define IAM roles for STS. Their names and IDs are derived from their ARNs. Pure."""

import base64
import hashlib
import re
from dataclasses import dataclass

from sidecar.local.trust_policy import TrustPolicy

ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/(?:[\x21-\x7e]*/)?([A-Za-z0-9_+=,.@-]{1,64})")
"""
Pattern for a role's ARN, with account, path and name (IAM and STS quotas: 64 characters).

This ARN contains the path. The ARN of a session and the role's ID do not.
"""

MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 3600, 43_200
"""Limits of a role's MaxSessionDuration, in seconds."""


@dataclass(frozen=True, slots=True)
class IamRole:
    """One role with its trust policy. `arn` matches ROLE_ARN."""

    arn: str
    trust_policy: TrustPolicy
    max_session_seconds: int = MIN_SESSION_SECONDS

    @property
    def account_id(self) -> str:
        return self._parts()[0]

    @property
    def name(self) -> str:
        return self._parts()[1]

    @property
    def id(self) -> str:
        """The unique ID: AROA and 17 characters that depend only on the ARN."""
        digest = base64.b32encode(hashlib.sha256(self.arn.encode()).digest()).decode("ascii")
        return f"AROA{digest[:17]}"

    def _parts(self) -> tuple[str, str]:
        match = ROLE_ARN.fullmatch(self.arn)
        assert match, self.arn
        return match[1], match[2]
