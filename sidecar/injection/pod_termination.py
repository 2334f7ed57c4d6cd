"""
Calculate how long a terminating Pod has credentials, although its token is not renewed. Pure.

Kubelets stop renewing a Pod's tokens once the Pod terminates (kubernetes issue 116481). Until then they renew a token
at 80 % of its lifetime (Kubernetes, service account token volume projection), so at least a fifth is left. The daemon
exchanges the token until it expires, and the last credentials are then served for the rest of their session.
"""

PART_LEFT = 5
"""Divisor for the part of a token's lifetime that is always left: a fifth, because renewal is at 80 %."""


def served_while_terminating_seconds(token_seconds: float, session_seconds: float) -> float:
    """
    Return the longest time for which a Pod has credentials while it terminates, if its token was due for renewal.

    The last refresh may be up to 55 % of a session before the token expires. So the time can be that much shorter.
    """
    return token_seconds / PART_LEFT + session_seconds


def outlives_its_credentials(grace_seconds: float, token_seconds: float, session_seconds: float) -> bool:
    """
    Return whether a Pod with this `terminationGracePeriodSeconds` may have no credentials at the end of termination.

    `token_seconds` is the lifetime that the token's volume requests (`expirationSeconds`). `session_seconds` is the
    session duration. For the duration `max` pass 3600, the shortest maximum that IAM allows.
    """
    return grace_seconds > served_while_terminating_seconds(token_seconds, session_seconds)
