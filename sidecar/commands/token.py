"""
Print the claims of the service account token. With --verify, check the token against its issuer's published keys.

The keys are cached in the user's cache directory for as long as the issuer allows, or longer while the issuer does not
respond.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from functools import partial

import jwt
import trio

from sidecar.console import remark, warn
from sidecar.errors import ConfigurationError
from sidecar.oidc.key_rotation import rotation_outlook
from sidecar.oidc.verified_token import verify_token
from sidecar.printable import printable_json
from sidecar.role import parse_token_file
from sidecar.token import Token, read_token, warning_from_claims

EXAMPLE = """\
example, in a Pod:
  irsa-sidecar token --verify

with any other token:
  kubectl create token app --audience sts.amazonaws.com > token
  irsa-sidecar token --file token --verify"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", metavar="FILE", help="file of the token (AWS_WEB_IDENTITY_TOKEN_FILE)")
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
        raise ConfigurationError(
            "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
            fix="Set it to the path of the token's file, or use --file",
            setting="AWS_WEB_IDENTITY_TOKEN_FILE",
        )
    setting = "--file" if args.file else "AWS_WEB_IDENTITY_TOKEN_FILE"
    token = read_token(parse_token_file(setting, path))
    print(printable_json(json.dumps(jwt.decode(token.raw, options={"verify_signature": False}), indent=2)))
    if warning := warning_from_claims(token, time.time()):
        warn(warning)
    if args.verify:
        for sentence in trio.run(partial(_verify, token, os.environ, allow_http=args.allow_http)):
            remark(sentence)
    return 0


async def _verify(token: Token, environ: Mapping[str, str], *, allow_http: bool) -> list[str]:
    """
    Return sentences about the key that verifies the token, about the audience, and about the next key rotation.

    The audience is not checked, because only the account's IAM OIDC provider knows the accepted audiences.

    Raises SidecarError with the reason if STS would reject the token, or if the issuer's keys are not available.
    """
    verified = await verify_token(token, environ, "irsa-sidecar token --verify", allow_http=allow_http)
    return [
        f"verified with key {verified.kid} that {verified.issuer} publishes",
        _audience(token),
        rotation_outlook(token, verified.kid, verified.found.kept),
    ]


def _audience(token: Token) -> str:
    if token.audience is None:
        return f"{token.audience_problem}: STS will reject it"
    return (
        f"its audience is {token.audience} ({token.audience_claim}), which must be among the client IDs of the "
        "account's IAM OIDC provider; that is not checked here"
    )
