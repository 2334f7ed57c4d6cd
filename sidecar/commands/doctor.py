"""
Check everything from the token to the SDK, and print the first failure and the next step.

In the sidecar's container, it checks the token, STS and the endpoint. In the application's container, it checks the
environment and the SDKs. It also runs on a laptop with the same variables, and can check a Pod from outside. It
exchanges the token of each role once, and changes nothing.

Exit status: 0 no failure, 1 a failure, 2 wrong usage. With --strict, a warning also causes status 1. Without
--strict, the status is 0 if there are only warnings, because credentials still work.
"""

import argparse
import os
import shutil
import sys
from functools import partial

import trio

from sidecar.doctor.finding import Status
from sidecar.errors import ConfigurationError
from sidecar.printable import printable_json
from sidecar.terminal import wants_colours

EXAMPLE = """\
examples:
  kubectl exec POD -c irsa-sidecar -- irsa-sidecar doctor
  irsa-sidecar doctor --pod shop/cart-7d4b9c-x2x9z
  irsa-sidecar doctor --json | jq -r '.first_failure.observed'"""

METADATA_ADDRESS = "http://169.254.169.254"
"""Address of the EC2 instance metadata service (EC2 User Guide, instance metadata)."""

MIN_WIDTH, MAX_WIDTH = 60, 140
"""Limits of the line width, in characters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document with a stable schema")
    parser.add_argument("--verbose", action="store_true", help="also list the skipped checks, with the reason")
    parser.add_argument("--strict", action="store_true", help="also exit with 1 if there are only warnings")
    parser.add_argument("--no-imds", action="store_true", help="do not call the node's metadata service")
    parser.add_argument(
        "--imds-address",
        metavar="URL",
        default=METADATA_ADDRESS,
        help=f"address of the node's metadata service [{METADATA_ADDRESS}]",
    )
    parser.add_argument("--pod", metavar="[NAMESPACE/]NAME", help="check a Pod from outside, with your kubeconfig")
    parser.add_argument("--context", metavar="NAME", help="with --pod: context of the kubeconfig [the current context]")
    parser.add_argument(
        "--exec", action="store_true", help="with --pod: also run doctor in the Pod's sidecar, with kubectl exec"
    )
    parser.add_argument(
        "--files",
        metavar="DIRECTORY",
        help="search for AWS SDKs below this directory; in an application's Pod, the default is the whole container",
    )


def main(args: argparse.Namespace) -> int:
    from sidecar.doctor import from_pod, report, run  # noqa: PLC0415  imported only for this command

    address = None if args.no_imds else args.imds_address
    examine = partial(run.examine, os.environ, metadata_address=address, files=args.files)
    if args.pod:
        examine = partial(from_pod.examine, os.environ, args.pod, args.context, execs=args.exec)
    elif args.context or args.exec:
        raise ConfigurationError(
            "--context and --exec are for a Pod", fix="Name the Pod with --pod [NAMESPACE/]NAME", setting="--context"
        )
    found = trio.run(examine)
    if args.json:
        _print(printable_json(report.as_json(found)))
    else:
        colours = sys.stdout.isatty() and wants_colours()
        width = min(max(shutil.get_terminal_size((120, 24)).columns, MIN_WIDTH), MAX_WIDTH)
        _print(report.as_text(found, width=width, colours=colours, is_verbose=args.verbose))
    fails = {Status.FAILED, Status.WARNING} if args.strict else {Status.FAILED}
    return 1 if found.status in fails else 0


def _print(text: str) -> None:
    """Print the text. If the reader has closed the pipe, as `| head` does, exit without a traceback."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
