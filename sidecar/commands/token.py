"""Print the claims of the service account token; with --verify, check it against its issuer's published keys."""

import argparse
import json
import os
import sys
import time

import jwt
import trio

from sidecar.errors import ConfigurationError, SidecarError
from sidecar.extras import import_extra
from sidecar.token import Token, read_token, warning_from_claims

EXAMPLE = """\
example, in a Pod:
  irsa-sidecar token --verify"""


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
    print(json.dumps(jwt.decode(token.raw, options={"verify_signature": False}), indent=2))
    if warning := warning_from_claims(token, time.time()):
        sys.stderr.write(f"irsa-sidecar: {warning}\n")
    if args.verify:
        trio.run(_verify, token)
        sys.stderr.write(f"irsa-sidecar: verified with a key that {token.issuer} publishes\n")
    return 0


async def _verify(token: Token) -> None:
    """Raises SidecarError with what STS would say, and why."""
    provider_keys = import_extra("sidecar.local.provider_keys", "irsa-sidecar token --verify", "local")
    from sidecar.local import web_identity  # noqa: PLC0415
    from sidecar.local.refusal import StsRefusal  # noqa: PLC0415

    try:
        unverified = web_identity.parse_token(token.raw)
        issuer = str(unverified.claims["iss"])
        keys = await provider_keys.fetch_keys(issuer, issuer)
        provider = web_identity.Provider(issuer, token.audiences, account_id="")
        web_identity.verify_token(unverified, provider, keys, time.time())
    except StsRefusal as refusal:
        raise SidecarError(f"not verified: {refusal.why} (STS would say {refusal.code}: {refusal})") from refusal
