"""Verify the token in --token-file, or warn that the token is not verified."""

from collections.abc import Mapping

import trio

from sidecar.console import remark, warn
from sidecar.errors import ConfigurationError, Explanation, SidecarError
from sidecar.oidc.verified_token import NotVerifiedError, verify_token
from sidecar.token import Token

EXPIRED = "ExpiredTokenException"
"""STS error code for an expired token with a valid signature. The token's claims are still trustworthy."""


def check_token(token: Token, file: str, environ: Mapping[str, str]) -> None:
    """
    Check the token's signature with its issuer's published keys.

    Print a warning if the token has expired, or if it cannot be verified here.

    Raises SidecarError if STS would reject the token for another reason.
    """
    try:
        verified = trio.run(lambda: verify_token(token, environ, "irsa-sidecar setup role --token-file"))
    except NotVerifiedError as exc:
        if exc.code == EXPIRED:
            warn(f"--token-file is {file!r}: its signature is valid, but {exc.reason}. STS will reject this token.")
        elif exc.is_refuted:
            raise SidecarError(
                f"--token-file is {file!r}: STS would reject this token: {exc.reason}",
                fix="Get a new token, or set --issuer and --service-account instead",
                setting="--token-file",
            ) from exc
        else:
            _remark_on_unverified(file, Explanation(exc.reason, exc.fix))
    except ConfigurationError as exc:
        _remark_on_unverified(file, exc.explanation)
    else:
        remark(f"--token-file is {file!r}: verified with key {verified.kid} that {verified.issuer} publishes")


def _remark_on_unverified(file: str, reason: Explanation) -> None:
    warn(
        f"--token-file is {file!r}: the token was not verified: {reason} Its issuer, audience and sub "
        "are unverified: check that the token is from a source that you trust."
    )
