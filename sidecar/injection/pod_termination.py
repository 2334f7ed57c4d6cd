"""
How long credentials are served in a Pod that is terminating, whose token the kubelet no longer renews. Pure.

Kubelets stop renewing a Pod's tokens once it terminates (kubernetes issue 116481). Until then they renew a token at
80 % of its lifetime (Kubernetes, service account token volume projection), so at least a fifth is left. The daemon
exchanges the token until it expires, and the last credentials are then served for the rest of their session.
"""

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
