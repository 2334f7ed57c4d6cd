"""
What the steps that make AWS resources have in common: their flags, and what is done with a plan.

Rule: the plan goes to stdout, remarks go to stderr, and nothing is changed with --dry-run or --output.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sidecar.console import warn
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.extras import import_extra
from sidecar.printable import printable
from sidecar.setup.issuer_checks import Concern, fatal, url_concerns
from sidecar.setup.outcome import Outcome, add_outcome_arguments, as_json, finish
from sidecar.setup.output_formats import FORMATS
from sidecar.setup.plan import Plan, coloured, difference
from sidecar.setup.resources import Account
from sidecar.terminal import wants_colours

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

_TAG_KEY = re.compile(r"[\w .:/=+@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
"""IAM API reference, Tag."""


def add_aws_arguments(parser: argparse.ArgumentParser, step: str) -> None:
    parser.set_defaults(step_name=step)
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], help="tag it; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    form = parser.add_mutually_exclusive_group()
    add_outcome_arguments(parser, form)
    form.add_argument(
        "--output",
        metavar="FORMAT",
        choices=FORMATS,
        help=f"print it instead, to paste elsewhere, as {', '.join(FORMATS)}; nothing is changed",
    )
    parser.add_argument("--profile", metavar="NAME", help="of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument("--region", metavar="NAME", help="of the cluster and the partition [AWS_REGION, the profile's]")
    parser.add_argument(
        "--account-id",
        metavar="ID",
        help="end if the credentials are of another account; with --output none are needed, as AWS is not asked",
    )


def open_aws(args: argparse.Namespace) -> "Aws":
    """Raises ConfigurationError if botocore is not installed."""
    aws: Aws = import_extra("sidecar.setup.aws", "irsa-sidecar setup", "setup").Aws(args.profile, args.region)
    return aws


def is_offline(args: argparse.Namespace) -> bool:
    return bool(args.output and args.account_id)


def find_account(args: argparse.Namespace, aws: "Aws") -> Account:
    """Raises ConfigurationError if it is not the one that was named."""
    if args.account_id and not re.fullmatch("[0-9]{12}", args.account_id):
        raise ConfigurationError(f"--account-id is {args.account_id!r}: give the 12 digits of an AWS account.")
    if is_offline(args):
        return aws.account_named(args.account_id)
    account = aws.account()
    if args.account_id not in (None, account.account_id):
        raise ConfigurationError(
            f"--account-id is {args.account_id}, and the credentials are of {account.account_id}: name the right ones "
            "with --profile."
        )
    return account


def read_tags(texts: Iterable[str]) -> dict[str, str]:
    """Raises ConfigurationError for what IAM takes for no tag."""
    tags = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"--tag is {text!r}: write KEY=VALUE, of letters, digits, spaces and _.:/=+@-, 128 and 256 at most."
            )
        tags[key] = value
    return tags


def tags_of(answer: Mapping[str, object]) -> dict[str, str]:
    tags = answer.get("Tags")
    return {tag["Key"]: tag["Value"] for tag in tags} if isinstance(tags, list) else {}


def check_issuer(url: str) -> None:
    """Raises ConfigurationError for what IAM takes for no issuer, or STS could never reach."""
    if texts := fatal(url_concerns(url)):
        raise ConfigurationError(" ".join(texts))


def report(concerns: Iterable[Concern]) -> None:
    """Remark on what will not work. Raises SidecarError where that is everything."""
    found = [*concerns]
    for concern in found:
        if not concern.is_fatal:
            warn(concern.text)
    if texts := fatal(found):
        raise SidecarError(" ".join(texts))


def carry_out(plan: Plan, args: argparse.Namespace, aws: "Aws", following: tuple[str, ...] = ()) -> int:
    """Print the plan as asked, or show it and do it. Returns the exit status. Raises SidecarError."""
    for note in plan.notes:
        warn(note)
    if args.output or args.json:
        for effect in plan.effects:
            if effect.startswith("takes away "):
                warn(f"{plan.title}: {effect}")
    if args.output:
        sys.stdout.write(FORMATS[args.output](plan.wanted))
        return 0
    outcome = _outcome(plan, args.step_name, following)
    if args.json:
        _make_silently(plan, outcome, aws, dry_run=args.dry_run)
    elif plan.calls:
        _show(plan)
        _make(plan, aws, dry_run=args.dry_run)
    else:
        print(printable(f"{plan.title}: nothing to change"))
    return finish(outcome, args)


def _outcome(plan: Plan, step: str, following: tuple[str, ...]) -> Outcome:
    before = None if plan.now is None else plan.now.document()
    changes = tuple(call.what for call in plan.calls)
    return Outcome(step, plan.title, changes, plan.effects, before, plan.wanted.document(), following)


def _make_silently(plan: Plan, outcome: Outcome, aws: "Aws", *, dry_run: bool) -> None:
    """Make the calls. If one fails, print what was done before it."""
    done = 0
    try:
        for call in () if dry_run else plan.calls:
            aws.make(call)
            done += 1
    except BaseException:
        print(as_json(outcome, dry_run=dry_run, done=done))
        raise


def _show(plan: Plan) -> None:
    print(printable(f"{plan.title}: {'to be created' if plan.now is None else 'to be changed'}"))
    is_colour = sys.stdout.isatty() and wants_colours()
    for line in difference(None if plan.now is None else plan.now.document(), plan.wanted.document()):
        shown = printable(line)
        print(coloured(shown) if is_colour else shown)
    for effect in plan.effects:
        print(printable(effect))


def _make(plan: Plan, aws: "Aws", *, dry_run: bool) -> None:
    for call in plan.calls:
        if not dry_run:
            aws.make(call)
        print(printable(f"{'would ' if dry_run else 'done: '}{call.what}"))
