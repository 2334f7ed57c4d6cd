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
        "--verify", action="store_true", help="fetch the issuer's keys and check what STS checks of a token"
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
        for sentence in trio.run(_verify, token, os.environ):
            remark(sentence)
    return 0


async def _verify(token: Token, environ: Mapping[str, str]) -> list[str]:
    """What there is to say of the key that verifies it. Raises SidecarError with what STS would say, and why."""
    import_extra("cryptography", "irsa-sidecar token --verify", "local")  # PyJWT would only call the signature wrong
    from sidecar.local import web_identity  # noqa: PLC0415
    from sidecar.local.refusal import StsRefusal  # noqa: PLC0415

    now = time.time()
    try:
        unverified = web_identity.parse_token(token.raw)
        issuer = str(unverified.claims["iss"])
        fetch = partial(published_keys.fetch, ca_bundle=environ.get("AWS_CA_BUNDLE") or None)
        found = await find_keys(issuer, unverified.kid, user_cache(environ), fetch, now)
        remark(f"the keys of {issuer} are {_origin(found)}")
        provider = web_identity.Provider(issuer, token.audiences, account_id="")
        web_identity.verify_token(unverified, provider, found.kept.keys, now)
    except IssuerError as exc:
        raise SidecarError(f"not verified: the issuer's keys are not to be had: {exc}") from exc
    except StsRefusal as refusal:
        raise SidecarError(f"not verified: {refusal.why} (STS would say {refusal.code}: {refusal})") from refusal
    return [
        f"verified with key {unverified.kid} that {issuer} publishes",
        rotation_outlook(token, str(unverified.kid), found.kept),
    ]


def _origin(found: Found) -> str:
    if found.is_new:
        return "fetched now"
    fetched = f"those kept since {instant_text(found.kept.fetched_at)}"
    if found.trouble is None:
        return f"{fetched}, as the issuer allows until {instant_text(found.kept.fresh_until)}"
    return f"{fetched}, as they are not to be had now: {found.trouble}"
