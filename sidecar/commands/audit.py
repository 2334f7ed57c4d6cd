"""
Find broken, too wide, exposed and unused ServiceAccounts, Pods and roles in a whole cluster and its AWS account.

The command reads the cluster with your kubeconfig and the account with your AWS credentials, and changes nothing. If a
permission is missing, the command reads the other data, and reports the missing permission.

Exit status: 0 no finding of the severity in --fail-on or higher, 1 such a finding, 2 wrong usage or configuration.
"""

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING

import trio

from sidecar.console import show_progress
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra
from sidecar.terminal import wants_colours

if TYPE_CHECKING:
    from sidecar.audit.inventory import Inventory
    from sidecar.audit.judge import AuditReport

EXAMPLE = """\
examples:
  irsa-sidecar audit
  irsa-sidecar audit --output table --output html=audit.html
  irsa-sidecar audit --save inventory && irsa-sidecar audit --from inventory --output sarif=audit.sarif
  irsa-sidecar audit --baseline last.json --fail-on warning"""

FORMATS = ("table", "json", "sarif", "junit", "prometheus", "html")

NEVER = "never"

MIN_WIDTH, MAX_WIDTH = 60, 140
"""Limits of the line width, in characters."""

MAX_DAYS = 400
"""Limit for --days. IAM tracks the use of a role for 400 days (IAM User Guide, last accessed information)."""

_COMMAND = "irsa-sidecar audit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_argument_group("inventory")
    reading.add_argument("--context", metavar="NAME", help="context of the kubeconfig [the current context]")
    reading.add_argument("--cluster", metavar="NAME", help="name of the EKS cluster [the name in the context's ARN]")
    reading.add_argument(
        "--issuer", metavar="URL", help="the cluster's issuer [the issuer that the API server publishes]"
    )
    reading.add_argument(
        "--ca-file", metavar="FILE", help="certificate of a private issuer's authority, to check the thumbprint"
    )
    reading.add_argument("--profile", metavar="NAME", help="profile of the AWS credentials")
    reading.add_argument("--region", metavar="NAME", help="AWS region of the cluster")
    saved = reading.add_mutually_exclusive_group()
    saved.add_argument("--from", dest="directory", metavar="DIRECTORY", help="use an inventory that --save wrote")
    saved.add_argument("--save", metavar="DIRECTORY", help="also save the inventory, for --from")
    judging = parser.add_argument_group("findings")
    judging.add_argument("--days", type=int, default=90, help="days after which a role counts as unused [90]")
    judging.add_argument("--require-boundary", action="store_true", help="report roles without a permissions boundary")
    judging.add_argument(
        "--accepted", metavar="FILE", help="file with accepted findings [.irsa-sidecar-audit.yaml, if it exists]"
    )
    judging.add_argument(
        "--baseline", metavar="FILE", help="an earlier report in JSON, whose findings do not count again"
    )
    judging.add_argument(
        "--fail-on",
        choices=["error", "warning", "note", NEVER],
        default="error",
        help="lowest severity that causes exit status 1",
    )
    parser.add_argument(
        "--output",
        metavar="FORMAT[=FILE]",
        action="append",
        help=f"format of the report (can be repeated): {', '.join(FORMATS)} [table]",
    )
    parser.add_argument("--verbose", action="store_true", help="list all findings in the table")
    parser.add_argument("--print-policy", action="store_true", help="print the IAM policy that an audit needs")


def main(args: argparse.Namespace) -> int:
    if args.print_policy:
        print(json.dumps(_iam_policy(), indent=2))
        return 0
    outputs = _outputs(args.output or ["table"])
    run = import_extra("sidecar.audit.run", _COMMAND, "setup")
    known = run.read_known(args.accepted, args.baseline)
    inventory = _inventory(args)
    report = run.audit(inventory, run.Options(args.require_boundary, _days(args.days)), known)
    for name, path in outputs:
        _write(_formatted(report, inventory, name, verbose=args.verbose), path)
    finding = import_extra("sidecar.audit.finding", _COMMAND, "setup")
    threshold = None if args.fail_on == NEVER else finding.Severity(args.fail_on)
    return 1 if report.fails(threshold) else 0


def _iam_policy() -> dict[str, object]:
    actions = import_extra("sidecar.audit.collect_aws", _COMMAND, "setup").ACTIONS
    statement = {"Sid": "IrsaSidecarAudit", "Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _inventory(args: argparse.Namespace) -> "Inventory":
    run = import_extra("sidecar.audit.run", _COMMAND, "setup")
    saved = import_extra("sidecar.audit.saved", _COMMAND, "setup")
    if args.directory:
        loaded: Inventory = saved.load(args.directory)
        return loaded
    sources = run.Sources(args.context, args.cluster or "", args.issuer or "", args.ca_file, args.profile, args.region)
    collected: Inventory = trio.run(run.collect, sources, show_progress)
    if args.save:
        saved.save(collected, args.save)
    return collected


def _outputs(texts: list[str]) -> list[tuple[str, str | None]]:
    """
    Return the format and the file of each --output.

    Raises ConfigurationError if two of them go to stdout.
    """
    outputs = [_output(text) for text in texts]
    printed = [name for name, path in outputs if path is None]
    if len(printed) > 1:
        raise ConfigurationError(
            f"--output sends {' and '.join(printed)} to stdout, where they would mix",
            fix=f"Write one to a file: --output {printed[1]}=FILE",
            setting="--output",
        )
    return outputs


def _output(text: str) -> tuple[str, str | None]:
    """
    Return the format and the file of one --output.

    Raises ConfigurationError if the format is unknown or the file's name is empty.
    """
    name, equals, path = text.partition("=")
    if name not in FORMATS:
        raise ConfigurationError(
            f"--output is {text}: {name} is not a format", fix=f"Use one of {', '.join(FORMATS)}", setting="--output"
        )
    if equals and not path:
        raise ConfigurationError(f"--output is {text}: no file is named", fix=f"Use {text}FILE", setting="--output")
    return name, path or None


def _days(days: int) -> int:
    if not 1 <= days <= MAX_DAYS:
        raise ConfigurationError(f"--days is {days}: it must be from 1 to {MAX_DAYS}", fix="Use 90", setting="--days")
    return days


def _formatted(report: "AuditReport", inventory: "Inventory", name: str, *, verbose: bool) -> str:
    if name == "table":
        text = import_extra("sidecar.audit.report.text", _COMMAND, "setup")
        width = min(max(shutil.get_terminal_size((120, 24)).columns, MIN_WIDTH), MAX_WIDTH)
        colours = sys.stdout.isatty() and wants_colours()
        table: str = text.as_text(report, width=width, colours=colours, is_verbose=verbose)
        return table
    module = import_extra(f"sidecar.audit.report.{'as_json' if name == 'json' else name}", _COMMAND, "setup")
    formatted: str = module.as_html(report, inventory) if name == "html" else getattr(module, f"as_{name}")(report)
    return formatted


def _write(text: str, path: str | None) -> None:
    if path is None:
        print(text.rstrip("\n"), flush=True)
        return
    try:
        import_extra("sidecar.audit.report_file", _COMMAND, "setup").write_report(path, f"{text.rstrip()}\n")
    except OSError as exc:
        raise ConfigurationError(
            f"--output names {path}, which cannot be written ({exc.strerror or exc})",
            fix="Use a file that you may write to",
            setting="--output",
        ) from exc
