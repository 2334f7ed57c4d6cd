"""
Run one command with AWS credentials. The daemon runs in the background until the command ends.

The exit status is the exit status of the command.
"""

import argparse
import os
from collections.abc import Mapping
from functools import partial

import trio

from sidecar.client.application import run_application, until_signalled, with_daemon
from sidecar.client.first_credentials import WAIT_SECONDS, wait_for_credentials
from sidecar.config.settings import Config, read_config
from sidecar.daemon.setting_checks import all_reported
from sidecar.log import make_logger
from sidecar.role import parse_whole_number
from sidecar.sts.request import endpoint_of

EXAMPLE = """\
example, in a CI job that has an OIDC token for the audience sts.amazonaws.com:
  AWS_ROLE_ARN=arn:aws:iam::111122223333:role/ci AWS_REGION=eu-west-1 AWS_WEB_IDENTITY_TOKEN_FILE=token \\
  irsa-sidecar exec -- aws s3 ls"""

MAX_WAIT_SECONDS = 86_400

FOR_PODS = frozenset(
    f"IRSA_SIDECAR_{variable}"
    for variable in (
        "LISTEN",
        "ADMIN_LISTEN",
        "AUTHORIZATION_TOKEN_FILE",
        "IMDS_LISTEN",
        "CREDENTIALS_FILE",
        "STATE_DIR",
    )
)
"""Settings that only a daemon in a Pod uses. With them, two daemons would use the same port or file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        default="warning",
        help="lowest level of messages on stderr: debug, info, warning or error [warning]",
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        default=str(WAIT_SECONDS),
        help=f"time to wait for the first credentials; with 0, the daemon tries once [{WAIT_SECONDS}]",
    )
    parser.add_argument("command", nargs="+", metavar="CMD", help="the command and its arguments, after --")


def main(args: argparse.Namespace) -> int:
    config = command_config(os.environ, args.log_level, args.wait)
    log, _ = make_logger(config.log_format or "console", config.log_level)
    wait = partial(wait_for_credentials, wait_seconds=parse_wait(args.wait))
    body = partial(run_application, args.command)
    return trio.run(until_signalled, partial(with_daemon, config, body, log, wait=wait))


def parse_wait(text: str) -> int:
    return parse_whole_number("--wait", text, 0, MAX_WAIT_SECONDS)


def command_config(environ: Mapping[str, str], log_level: str, wait: str = str(WAIT_SECONDS)) -> Config:
    """
    Return the settings of a daemon beside one command. The daemon uses free loopback ports. `wait` is only checked.

    Raises ConfigurationError if settings are missing or invalid. The error lists all of them.
    """
    flags = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "log_level": log_level}
    environ = {name: value for name, value in environ.items() if name not in FOR_PODS}
    with all_reported(environ, flags):
        parse_wait(wait)  # first, because the other errors are listed with the first one
        config = read_config(environ, flags)
        endpoint_of(config.sts)
    return config
