"""
Define the events of the local services. Names are in the past tense, and no event contains a secret.

| event | fields |
|---|---|
| `token_renewed` | path, expires_at |
| `token_renewal_failed` | path, reason |
| `signing_keys_rotated` | kid, published_keys (the number of keys) |
| `exchange_granted` | arn, access_key_id, expires_at, subject, audience |
| `role_assumed` | arn, access_key_id, expires_at, caller |
| `caller_identity_returned` | arn |
| `trust_statement_not_evaluated` | role_arn, reason |
| `request_rejected` | operation, role_arn, code, message (for the caller), reason (not for the caller) |
| `request_failed` | exception (a defect of this program) |
"""

from typing import Any, Protocol


class Emit(Protocol):
    """A function that accepts an event's name and fields. It must not raise or block."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...
