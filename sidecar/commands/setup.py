"""
Set up an AWS account and a cluster for IRSA, step by step.

A step can be repeated: it changes only what is missing or different. --dry-run shows the changes.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.commands.parsing import run_command
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.extras import import_extra

STEPS = {
    "oidc-provider": "have an AWS account take the tokens of a cluster",
    "role": "have service accounts of a cluster assume an IAM role",
    "service-account": "have a ServiceAccount name its role",
    "pod": "add the sidecar to the Pods of a manifest",
    "issuer-documents": "publish the keys of a cluster whose issuer AWS does not host",
}
"""In the order in which a person needs them; the module of each is named after it."""

_LISTING = "\n".join(f"  {name:18} {summary}" for name, summary in STEPS.items())

EXAMPLE = f"""\
steps:
{_LISTING}

irsa-sidecar setup STEP --help says more, with an example:
  irsa-sidecar setup oidc-provider --cluster shop --dry-run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", metavar="STEP", nargs="?", choices=[*STEPS, "help"], help="one of those below")
    parser.add_argument("arguments", metavar="…", nargs=argparse.REMAINDER, help="its own arguments")


def main(args: argparse.Namespace) -> int:
    if args.step in (None, "help"):
        return run_command(sys.modules[__name__], "irsa-sidecar setup", [*args.arguments, "--help"])
    step = import_extra(f"sidecar.setup.steps.{args.step.replace('-', '_')}", "irsa-sidecar setup", "setup")
    with _errors_apart("--exit-code" in args.arguments):
        return run_command(step, f"irsa-sidecar setup {args.step}", args.arguments)


@contextmanager
def _errors_apart(has_exit_code: bool) -> Iterator[None]:  # noqa: FBT001
    """With --exit-code, end with 1 on wrong usage and configuration too, because 2 stands for a change."""
    try:
        yield
    except ConfigurationError as exc:
        if not has_exit_code:
            raise
        raise SidecarError(str(exc)) from exc
    except SystemExit as exc:
        if not (has_exit_code and exc.code):
            raise
        raise SystemExit(1) from exc
