"""
Verify a token with the keys that its issuer publishes, as STS does.

Rule: like STS, the program requests only https:// URLs, unless http:// is allowed. It prints each URL before its
request. The keys are stored in the user's cache directory.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.clock import instant_text
from sidecar.console import remark
from sidecar.errors import SidecarError
from sidecar.extras import import_extra
from sidecar.oidc import jwks as published_keys
from sidecar.oidc.jwks import IssuerError
from sidecar.oidc.jwks_cache import Found, find_keys, user_cache
from sidecar.redaction import without_secrets
from sidecar.token import Token


class NotVerifiedError(SidecarError):
    """
    An error for a token that is not verified.

    `reason` is the message without the words "not verified". `is_refuted` means that STS would reject the token. `code`
    is then the error code of STS, else empty.
    """

    def __init__(self, reason: str, *, fix: str = "", is_refuted: bool = False, code: str = "") -> None:
        super().__init__(f"not verified: {reason}", fix=fix)
        self.reason = without_secrets(reason)
        self.is_refuted = is_refuted
        self.code = code


class Verified(NamedTuple):
    """The key that verified a token, and all keys of the issuer."""

    issuer: str
    kid: str
    found: Found


async def verify_token(token: Token, environ: Mapping[str, str], command: str, *, allow_http: bool = False) -> Verified:
    """
    Check the signature and the times of the token with its issuer's keys. The audience is not checked.

    Raises NotVerifiedError if a check fails or the keys are not available, and ConfigurationError if a package that
    `command` needs is missing.
    """
    import_extra("cryptography", command, "local")  # without cryptography, PyJWT would only report a wrong signature
    from sidecar.oidc import verification as web_identity  # noqa: PLC0415
    from sidecar.oidc.sts_rejection import StsRejection  # noqa: PLC0415

    now = time.time()
    try:
        unverified = web_identity.parse_token(token.raw)
        issuer = str(unverified.claims["iss"])
        found = await _find_keys(issuer, unverified.kid, environ, now, allow_http=allow_http)
        remark(f"the keys of {issuer} are {_origin(found)}")
        web_identity.verify_without_audience(unverified, found.kept.keys, now)
    except IssuerError as exc:
        raise NotVerifiedError(f"the issuer's keys are not available: {exc.problem}") from exc
    except StsRejection as rejection:
        raise NotVerifiedError(
            f"{rejection.reason} (STS would reject it with {rejection.code}: {rejection})",
            is_refuted=True,
            code=rejection.code,
        ) from rejection
    return Verified(issuer, str(unverified.kid), found)


async def _find_keys(
    issuer: str, kid: str | None, environ: Mapping[str, str], now: float, *, allow_http: bool
) -> Found:
    """
    Return the issuer's keys, stored or fetched.

    Raises NotVerifiedError for a URL that STS never requests, and IssuerError if no keys are available.
    """
    check_url(issuer, allow_http=allow_http)  # even if the keys are already stored
    cache = user_cache(environ, "keys-over-http" if allow_http else "keys")
    announce = partial(announce_request, issuer, allow_http=allow_http)
    ca_bundle = environ.get("AWS_CA_BUNDLE") or None
    fetch = partial(published_keys.fetch, ca_bundle=ca_bundle, before_request=announce)
    return await find_keys(issuer, kid, cache, fetch, now)


def check_url(url: str, *, allow_http: bool) -> None:
    """Raise NotVerifiedError for a URL that STS never requests, unless it is http:// and http:// is allowed."""
    is_http = url.lower().startswith("http://")
    if is_http and not allow_http:
        raise NotVerifiedError(
            f"{url} is not https, and STS requests no other URLs", fix="To request it anyway, add --allow-http"
        )
    try:
        published_keys.require_https(f"https{url[4:]}" if is_http else url)
    except IssuerError as exc:
        raise NotVerifiedError(exc.problem) from exc


def announce_request(issuer: str, url: str, *, allow_http: bool) -> None:
    """
    Print the URL that is requested next, and the issuer's host if the URL has another host.

    Raises NotVerifiedError if check_url rejects the URL.
    """
    check_url(url, allow_http=allow_http)
    host, issuers_host = urlsplit(url).netloc, urlsplit(issuer).netloc
    other = "" if host == issuers_host else f", on another host than the issuer's, {issuers_host}"
    remark(f"requesting {url}{other}")


def _origin(found: Found) -> str:
    if found.is_new:
        return "fetched now"
    fetched = f"those stored at {instant_text(found.kept.fetched_at)}"
    if found.last_error is None:
        return f"{fetched}, which the issuer allows until {instant_text(found.kept.fresh_until)}"
    return f"{fetched}, because they are not available now: {found.last_error.problem}"
