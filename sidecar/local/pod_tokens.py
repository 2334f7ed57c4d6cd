"""
Issue correct or faulty tokens for the local Pod, as the API server does for the kubelet.

Rule: a fault changes the claims or prevents new tokens. The signature is always correct, so that STS finds the fault.
"""

from dataclasses import dataclass, replace

from sidecar.local.issuer import IssuedToken, Issuer
from sidecar.local.service_account import PodIdentity, TokenRequest
from sidecar.oidc.verification import TOLERANCE_SECONDS

WRONG_AUDIENCE = "https://kubernetes.default.svc"
"""The audience that a token gets if the projected volume does not set `audience`, which is a frequent mistake."""

WRONG_SERVICE_ACCOUNT, SECOND_WRONG_SERVICE_ACCOUNT = "other", "another"
"""The name of the wrong service account, and the name that is used if the Pod's own service account is `other`."""


@dataclass(frozen=True, slots=True)
class TokenFault:
    """A fault of the tokens. If `is_available` is false, the API server issues no tokens."""

    audience: str | None = None
    service_account: str | None = None
    is_available: bool = True


class PodTokens:
    """The tokens of one Pod. `fault` changes the next tokens, and `newest` is the last issued token."""

    def __init__(self, issuer: Issuer, identity: PodIdentity, request: TokenRequest) -> None:
        self._issuer = issuer
        self._identity = identity
        self._request = request
        self.fault = TokenFault()
        self.newest: IssuedToken | None = None

    def issue(self) -> IssuedToken:
        """
        Return a new token.

        Raises OSError if the fault makes tokens unavailable.
        """
        if not self.fault.is_available:
            raise OSError("the API server issues no token, because a control expired the token")
        return self._issue(0)

    def issue_expired(self) -> IssuedToken:
        """Return a token that STS rejects as expired. STS accepts a token for 300 s after its expiration."""
        return self._issue(self._request.lifetime_seconds + TOLERANCE_SECONDS + 1)

    def wrong_service_account(self) -> str:
        is_taken = self._identity.service_account == WRONG_SERVICE_ACCOUNT
        return SECOND_WRONG_SERVICE_ACCOUNT if is_taken else WRONG_SERVICE_ACCOUNT

    def _issue(self, age_seconds: int) -> IssuedToken:
        identity, request, fault = self._identity, self._request, self.fault
        if fault.service_account is not None:
            identity = replace(identity, service_account=fault.service_account)
        if fault.audience is not None:
            request = replace(request, audience=fault.audience)
        self.newest = self._issuer.issue(identity, request, age_seconds=age_seconds)
        return self.newest
