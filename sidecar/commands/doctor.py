"""
Walk the way from token to SDK and say what is wrong first, and the next step.

Run it in the sidecar's container for token, STS and endpoint; in the application's for its environment and SDKs; on a
laptop with the same variables set; or against a Pod from outside. Each role is exchanged once, and nothing is changed
anywhere.

Exit status: 0 nothing is wrong, 1 something is, 2 wrong usage. Warnings are told and leave it at 0, as everything works
in spite of them; with --strict they make it 1.
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
"""Of EC2 (EC2 User Guide, instance metadata)."""

LEAST_WIDTH, MOST_WIDTH = 60, 140


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines: one document, whose schema is stable")
    parser.add_argument("--verbose", action="store_true", help="also list the checks that could not be made, and why")
    parser.add_argument("--strict", action="store_true", help="end with 1 also when there are only warnings")
    parser.add_argument("--no-imds", action="store_true", help="do not try the node's metadata service")
    parser.add_argument(
        "--imds-address", metavar="URL", default=METADATA_ADDRESS, help=f"where that is [{METADATA_ADDRESS}]"
    )
    parser.add_argument("--pod", metavar="[NAMESPACE/]NAME", help="look at a Pod from outside, by your kubeconfig")
    parser.add_argument("--context", metavar="NAME", help="with --pod: the context of the kubeconfig [current]")
    parser.add_argument(
        "--exec", action="store_true", help="with --pod: also run doctor in its sidecar, by kubectl exec"
    )
    parser.add_argument(
        "--files", metavar="DIRECTORY", help="look for AWS SDKs below it (in an application's Pod: everywhere)"
    )


def main(args: argparse.Namespace) -> int:
    from sidecar.doctor import from_pod as pod_side  # noqa: PLC0415  imported only if they are needed
    from sidecar.doctor import report  # noqa: PLC0415  imported only if they are needed
    from sidecar.doctor import run as examination  # noqa: PLC0415  imported only if they are needed

    address = None if args.no_imds else args.imds_address
    look = partial(examination.examine, os.environ, metadata_address=address, files=args.files)
    if args.pod:
        look = partial(pod_side.examine, os.environ, args.pod, args.context, execs=args.exec)
    elif args.context or args.exec:
        raise ConfigurationError("--context and --exec are for a Pod: name it with --pod [NAMESPACE/]NAME.")
    found = trio.run(look)
    if args.json:
        _print(printable_json(report.as_json(found)))
    else:
        colours = sys.stdout.isatty() and wants_colours()
        width = min(max(shutil.get_terminal_size((120, 24)).columns, LEAST_WIDTH), MOST_WIDTH)
        _print(report.as_text(found, width=width, colours=colours, is_verbose=args.verbose))
    fails = {Status.WRONG, Status.WARNING} if args.strict else {Status.WRONG}
    return 1 if found.status in fails else 0


def _print(text: str) -> None:
    """What reads us may have seen enough: `| head` must not end in a traceback."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
