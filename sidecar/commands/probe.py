"""
Check whether the daemon is ready, for exec probes and HEALTHCHECK.

The command exits with 0 if the daemon is ready. Otherwise it prints the reason and exits with 1.
"""

import argparse
import os
import time

from sidecar.addresses import format_address, parse_address
from sidecar.client.request import get, reachable
from sidecar.config.settings import PREFIX
from sidecar.console import complain
from sidecar.errors import ConfigurationError
from sidecar.role import parse_whole_number

EXAMPLE = """\
example:
  irsa-sidecar probe --wait 60

as a native sidecar's startup probe:
  startupProbe:
    exec:
      command: [irsa-sidecar, probe,
                --wait, "4"]
    timeoutSeconds: 6
    periodSeconds: 1
    failureThreshold: 120"""

DEADLINE_SECONDS = 1.0
"""Deadline for one check. It is the default deadline of a Kubernetes probe (timeoutSeconds)."""

CHECK_SECONDS = 0.05
"""Interval between checks while waiting. It delays an application by at most that time. A check takes 0.2 ms."""

MAX_WAIT_SECONDS = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--admin-listen", metavar="HOST:PORT", help=f"admin address of the daemon ({PREFIX}ADMIN_LISTEN)"
    )
    parser.add_argument("--wait", metavar="SECONDS", default="0", help="how long to wait until the daemon is ready [0]")


def main(args: argparse.Namespace) -> int:
    setting, text = f"{PREFIX}ADMIN_LISTEN", args.admin_listen or os.environ.get(f"{PREFIX}ADMIN_LISTEN") or ":4773"
    if text == "off":
        raise ConfigurationError(
            f"{setting} is off, and a probe needs the admin address",
            fix="Set it to the same address for the daemon and the probe",
            setting=setting,
        )
    address = reachable(parse_address(setting, text))
    deadline_at = time.monotonic() + parse_whole_number("--wait", args.wait, 0, MAX_WAIT_SECONDS)
    while (problem := _problem(address)) and time.monotonic() < deadline_at:
        time.sleep(CHECK_SECONDS)
    if problem:
        complain(problem)
    return 1 if problem else 0


def _problem(address: tuple[str, int]) -> str | None:
    """Return the reason why the daemon is not ready, or None if it is ready."""
    try:
        status, body = get(address, "/readyz", DEADLINE_SECONDS)
    except OSError as error:
        return f"nothing answers on {format_address(*address)} ({error}). Check that the daemon is running."
    return None if status == 200 else f"not ready: {body.decode('utf-8', 'replace').strip()}"
