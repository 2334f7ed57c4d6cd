"""
Print the claims of the service account token; with --verify, check it against its issuer's published keys.

The keys are kept in the user's cache directory for as long as the issuer allows, and beyond when it does not answer.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

import jwt
import trio

from sidecar import published_keys
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.extras import import_extra
from sidecar.key_cache import Found, find_keys, user_cache
from sidecar.key_rotation import rotation_outlook
from sidecar.printable import printable_json
from sidecar.published_keys import IssuerError
from sidecar.remarks import remark
from sidecar.token import Token, instant_text, read_token, warning_from_claims

EXAMPLE = """\
example, in a Pod:
  irsa-sidecar token --verify

of any token, wherever it came from:
  kubectl create token app --audience sts.amazonaws.com > token
  irsa-sidecar token --file token --verify"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="the token's file (AWS_WEB_IDENTITY_TOKEN_FILE)")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="fetch the issuer's keys, and check the signature and the times as STS does",
    )
    parser.add_argument(
        "--allow-http", action="store_true", help="with --verify: also request http:// URLs, which STS never does"
    )


def main(args: argparse.Namespace) -> int:
    path = args.file or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if not path:
        raise ConfigurationError("AWS_WEB_IDENTITY_TOKEN_FILE is not set: name the token's file there or with --file.")
    token = read_token(path)
    print(printable_json(json.dumps(jwt.decode(token.raw, options={"verify_signature": False}), indent=2)))
    if warning := warning_from_claims(token, time.time()):
        remark(warning)
    if args.verify:
        for sentence in trio.run(partial(_verify, token, os.environ, allow_http=args.allow_http)):
            remark(sentence)
    return 0


async def _verify(token: Token, environ: Mapping[str, str], *, allow_http: bool) -> list[str]:
    """
    Return what is known of the key that verifies the token, and of its audience.

    The audience is not judged, because only the account's IAM OIDC provider says which it accepts.
    Raises SidecarError with what STS would answer, and why.
    """
    import_extra("cryptography", "irsa-sidecar token --verify", "local")  # PyJWT would only call the signature wrong
    from sidecar.local import web_identity  # noqa: PLC0415
    from sidecar.local.refusal import StsRefusal  # noqa: PLC0415

    now = time.time()
    try:
        unverified = web_identity.parse_token(token.raw)
        issuer = str(unverified.claims["iss"])
        found = await _find_keys(issuer, unverified.kid, environ, now, allow_http=allow_http)
        remark(f"the keys of {issuer} are {_origin(found)}")
        web_identity.verify_without_audience(unverified, found.kept.keys, now)
    except IssuerError as exc:
        raise SidecarError(f"not verified: the issuer's keys are not to be had: {exc}") from exc
    except StsRefusal as refusal:
        raise SidecarError(f"not verified: {refusal.why} (STS would say {refusal.code}: {refusal})") from refusal
    return [
        f"verified with key {unverified.kid} that {issuer} publishes",
        _audience(token),
        rotation_outlook(token, str(unverified.kid), found.kept),
    ]


async def _find_keys(
    issuer: str, kid: str | None, environ: Mapping[str, str], now: float, *, allow_http: bool
) -> Found:
    """Return the issuer's keys, kept or fetched. Raises SidecarError for a URL that STS never requests."""
    _check_url(issuer, allow_http=allow_http)  # also where its keys are kept already
    cache = user_cache(environ, "keys-over-http" if allow_http else "keys")
    announce = partial(_announce, issuer, allow_http=allow_http)
    ca_bundle = environ.get("AWS_CA_BUNDLE") or None
    fetch = partial(published_keys.fetch, ca_bundle=ca_bundle, before_request=announce)
    return await find_keys(issuer, kid, cache, fetch, now)


def _check_url(url: str, *, allow_http: bool) -> None:
    """Raise SidecarError for a URL that STS never requests, unless only its http:// is the reason and is allowed."""
    is_http = url.lower().startswith("http://")
    if is_http and not allow_http:
        raise SidecarError(
            f"not verified: {url} is not https, and STS requests nothing else. To request it all the same, add "
            "--allow-http."
        )
    try:
        published_keys.require_https(f"https{url[4:]}" if is_http else url)
    except IssuerError as exc:
        raise SidecarError(f"not verified: {exc}.") from exc


def _announce(issuer: str, url: str, *, allow_http: bool) -> None:
    """Say that the URL is about to be requested, and whether it leads to another host. Raises as _check_url does."""
    _check_url(url, allow_http=allow_http)
    host, issuers_host = urlsplit(url).netloc, urlsplit(issuer).netloc
    other = "" if host == issuers_host else f", on another host than the issuer's, {issuers_host}"
    remark(f"requesting {url}{other}")


def _audience(token: Token) -> str:
    if token.audience is None:
        return f"{token.audience_problem}: STS will refuse it"
    return (
        f"its audience is {token.audience} ({token.audience_claim}), which must be among the client IDs of the "
        "account's IAM OIDC provider; that is not checked here"
    )


def _origin(found: Found) -> str:
    if found.is_new:
        return "fetched now"
    fetched = f"those kept since {instant_text(found.kept.fetched_at)}"
    if found.trouble is None:
        return f"{fetched}, as the issuer allows until {instant_text(found.kept.fresh_until)}"
    return f"{fetched}, as they are not to be had now: {found.trouble}"
