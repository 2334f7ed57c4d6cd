"""
How long a token still helps: in a Pod that is terminating, and at the start of the daemon. Pure.

Kubelets stop renewing a Pod's tokens once it terminates (kubernetes issue 116481). Until then they renew a token at
80 % of its lifetime (Kubernetes, service account token volume projection), so at least a fifth is left. The daemon
exchanges the token until it expires, and the last credentials are then served for the rest of their session.
"""

from collections.abc import Callable

PART_LEFT = 5
"""The kubelet renews a token at 80 % of its lifetime, so a fifth of it is always left."""


def served_while_terminating_seconds(token_seconds: float, session_seconds: float) -> float:
    """
    Return for how many seconds at most a Pod whose token was due for renewal has credentials after it terminates.

    The last refresh may be up to half a session before the token's end, so up to half a session less is certain.
    """
    return token_seconds / PART_LEFT + session_seconds


def outlives_its_credentials(grace_seconds: float, token_seconds: float, session_seconds: float) -> bool:
    """
    Return whether a Pod with this `terminationGracePeriodSeconds` may be left without credentials while it terminates.

    `token_seconds` is the lifetime that the token's volume requests (`expirationSeconds`), and `session_seconds` the
    session duration; for the duration `max` pass the shortest maximum that IAM allows, 3600.
    """
    return grace_seconds > served_while_terminating_seconds(token_seconds, session_seconds)


def expired_at_start_warning(expires_at: float | None, now: float, instant_text: Callable[[float], str]) -> str | None:
    """Return a sentence if the token had expired when the daemon read it first. Instants are Unix seconds."""
    if expires_at is None or now < expires_at:
        return None
    return (
        f"the token expired at {instant_text(expires_at)}, before the daemon started, and STS rejects it soon or "
        "already. Check what renews the file: the kubelet, or the job that wrote it"
    )
