"""Ask the daemon whether it is ready: exit 0 if so, else 1 with the reason. For exec probes and HEALTHCHECK."""

import argparse
import os
import sys

from sidecar.config import PREFIX
from sidecar.daemon_client import get, reachable
from sidecar.errors import ConfigurationError
from sidecar.listen import format_address, parse_address

EXAMPLE = """\
example, as a native sidecar's startup probe:
  startupProbe: {exec: {command: [irsa-sidecar, probe]}, periodSeconds: 1, failureThreshold: 60}"""

DEADLINE_SECONDS = 1.0
"""Kubernetes gives a probe one second unless told otherwise (timeoutSeconds)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin-listen", metavar="HOST:PORT", help=f"the daemon's ({PREFIX}ADMIN_LISTEN)")


def main(args: argparse.Namespace) -> int:
    setting, text = f"{PREFIX}ADMIN_LISTEN", args.admin_listen or os.environ.get(f"{PREFIX}ADMIN_LISTEN") or ":4773"
    if text == "off":
        raise ConfigurationError(f"{setting} is off: a probe needs the admin address; give one to the daemon and here.")
    address = reachable(parse_address(setting, text))
    try:
        status, body = get(address, "/readyz", DEADLINE_SECONDS)
    except OSError as error:
        sys.stderr.write(
            f"irsa-sidecar: nothing answers on {format_address(*address)} ({error}): is the daemon running?\n"
        )
        return 1
    if status == 200:
        return 0
    sys.stderr.write(f"irsa-sidecar: not ready: {body.decode('utf-8', 'replace').strip()}\n")
    return 1
