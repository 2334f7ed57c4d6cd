"""Ask the daemon whether it is ready: exit 0 if so, else 1 with the reason. For exec probes and HEALTHCHECK."""

import argparse
import os
import time

from sidecar.addresses import format_address, parse_address
from sidecar.client.request import get, reachable
from sidecar.config.settings import PREFIX
from sidecar.console import complain
from sidecar.errors import ConfigurationError
from sidecar.role import check_whole_number

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
    failureThreshold: 100"""

DEADLINE_SECONDS = 1.0
"""Kubernetes gives a probe one second unless told otherwise (timeoutSeconds)."""

LOOK_SECONDS = 0.05
"""Between two looks while waiting: an application starts that much later at most, and a look costs 0.2 ms."""

MAX_WAIT_SECONDS = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin-listen", metavar="HOST:PORT", help=f"the daemon's ({PREFIX}ADMIN_LISTEN)")
    parser.add_argument("--wait", metavar="SECONDS", default="0", help="how long to wait for it to become ready [0]")


def main(args: argparse.Namespace) -> int:
    setting, text = f"{PREFIX}ADMIN_LISTEN", args.admin_listen or os.environ.get(f"{PREFIX}ADMIN_LISTEN") or ":4773"
    if text == "off":
        raise ConfigurationError(f"{setting} is off: a probe needs the admin address; give one to the daemon and here.")
    address = reachable(parse_address(setting, text))
    ends_at = time.monotonic() + check_whole_number("--wait", args.wait, 0, MAX_WAIT_SECONDS)
    while (trouble := _trouble(address)) and time.monotonic() < ends_at:
        time.sleep(LOOK_SECONDS)
    if trouble:
        complain(trouble)
    return 1 if trouble else 0


def _trouble(address: tuple[str, int]) -> str | None:
    """Why the daemon is not ready; None when it is."""
    try:
        status, body = get(address, "/readyz", DEADLINE_SECONDS)
    except OSError as error:
        return f"nothing answers on {format_address(*address)} ({error}): is the daemon running?"
    return None if status == 200 else f"not ready: {body.decode('utf-8', 'replace').strip()}"
