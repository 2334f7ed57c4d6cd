"""Ask the daemon whether it is ready: exit 0 if so, else 1 with the reason. For exec probes and HEALTHCHECK."""

import argparse
import os
import socket
import sys

from sidecar.config import PREFIX
from sidecar.errors import ConfigurationError
from sidecar.listen import format_address, parse_address

EXAMPLE = """\
example, as a native sidecar's startup probe:
  startupProbe: {exec: {command: [irsa-sidecar, probe]}, periodSeconds: 1, failureThreshold: 60}"""

DEADLINE_SECONDS = 1.0
"""Kubernetes gives a probe one second unless told otherwise (timeoutSeconds)."""

MAX_ANSWER_BYTES = 65_536

_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a table, not a bind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin-listen", metavar="HOST:PORT", help=f"the daemon's ({PREFIX}ADMIN_LISTEN)")


def main(args: argparse.Namespace) -> int:
    setting, text = f"{PREFIX}ADMIN_LISTEN", args.admin_listen or os.environ.get(f"{PREFIX}ADMIN_LISTEN") or ":4773"
    if text == "off":
        raise ConfigurationError(f"{setting} is off: a probe needs the admin address; give one to the daemon and here.")
    host, port = parse_address(setting, text)
    address = (_REACHABLE.get(host, host), port)
    try:
        status, body = _ask_readyz(address)
    except OSError as error:
        sys.stderr.write(
            f"irsa-sidecar: nothing answers on {format_address(*address)} ({error}): is the daemon running?\n"
        )
        return 1
    if status == b"200":
        return 0
    sys.stderr.write(f"irsa-sidecar: not ready: {body.decode('utf-8', 'replace').strip()}\n")
    return 1


def _ask_readyz(address: tuple[str, int]) -> tuple[bytes, bytes]:
    """The status and the body. A bare socket starts in a tenth of an HTTP library's time, and a probe runs often."""
    with socket.create_connection(address, timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = b""
        while len(answer) < MAX_ANSWER_BYTES and (piece := connection.recv(MAX_ANSWER_BYTES)):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.partition(b" ")[2][:3], body
