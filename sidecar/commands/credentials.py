"""Trade the token for credentials once and print them, as `credential_process` wants them or as shell lines."""

import argparse
import json
import os
import shlex

import trio

from sidecar import exchange
from sidecar.credentials import Credentials

EXAMPLE = """\
example, in ~/.aws/config:
  [profile app]
  credential_process = irsa-sidecar credentials

and in a shell:
  eval "$(irsa-sidecar credentials --format env)\""""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=sorted(_FORMATS), default="json", help="json for credential_process, env for a shell"
    )


def main(args: argparse.Namespace) -> int:
    print(_FORMATS[args.format](trio.run(exchange.once, os.environ)))
    return 0


def _as_json(credentials: Credentials) -> str:
    """AWS SDK reference, process credential provider: Version 1; AccountId is read by newer SDKs."""
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "SessionToken": credentials.session_token,
            "Expiration": credentials.expiration,
            "AccountId": credentials.account_id,
        },
        indent=2,
    )


def _as_shell(credentials: Credentials) -> str:
    variables = {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
        "AWS_CREDENTIAL_EXPIRATION": credentials.expiration,
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


_FORMATS = {"json": _as_json, "env": _as_shell}
