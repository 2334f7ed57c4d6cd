"""
Set up an AWS account and a cluster for IRSA, step by step.

You can repeat each step, because a step changes only missing or different parts. --dry-run shows the changes.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.commands.parsing import run_command
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.extras import import_extra

STEPS = {
    "oidc-provider": "create the IAM OIDC provider of a cluster",
    "role": "create an IAM role, and let service accounts assume it",
    "service-account": "annotate a ServiceAccount with its role",
    "pod": "add the sidecar to the Pods of a manifest",
    "cluster": "give a new cluster the access of another cluster, or remove a cluster's access",
    "migrate": "move Pods from IRSA, EKS Pod Identity or kube2iam",
    "policy": "write policies with which the API server adds the sidecar to Pods",
    "issuer-documents": "write or publish the issuer documents of a cluster outside EKS",
    "rotate": "rotate the signing keys of a cluster outside EKS",
}
"""Steps of the set-up, in the order in which a person needs them. Each is a module of `sidecar.setup.steps`."""

_LISTING = "\n".join(f"  {name:18} {summary}" for name, summary in STEPS.items())

EXAMPLE = f"""\
steps:
{_LISTING}

for the flags of a step, and examples:
  irsa-sidecar setup STEP --help

example:
  irsa-sidecar setup oidc-provider --cluster shop --dry-run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", metavar="STEP", nargs="?", choices=[*STEPS, "help"], help="one of the steps below")
    parser.add_argument("arguments", metavar="…", nargs=argparse.REMAINDER, help="the arguments of the step")


def main(args: argparse.Namespace) -> int:
    if args.step in (None, "help"):
        return run_command(sys.modules[__name__], "irsa-sidecar setup", [*args.arguments, "--help"])
    step = import_extra(f"sidecar.setup.steps.{args.step.replace('-', '_')}", "irsa-sidecar setup", "setup")
    with _errors_apart("--exit-code" in args.arguments):
        return run_command(step, f"irsa-sidecar setup {args.step}", args.arguments)


@contextmanager
def _errors_apart(has_exit_code: bool) -> Iterator[None]:  # noqa: FBT001
    """Make wrong usage and configuration errors exit with 1 if --exit-code is set, because 2 then means a change."""
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
