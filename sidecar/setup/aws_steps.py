"""
Read the flags that all AWS steps have in common, and show and apply a plan.

Rule: the plan goes to stdout and remarks go to stderr. With --dry-run or --output nothing changes.
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
from sidecar.setup.plan import Call, Plan, coloured, difference
from sidecar.setup.resources import Account
from sidecar.setup.trust_policy import REMOVES
from sidecar.terminal import wants_colours

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

_TAG_KEY = re.compile(r"[\w .:/=+@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
"""Patterns for the keys and the values of tags that IAM accepts (IAM API reference, Tag)."""


def add_aws_arguments(parser: argparse.ArgumentParser, step: str) -> None:
    parser.set_defaults(step_name=step)
    parser.add_argument(
        "--tag", metavar="KEY=VALUE", action="append", default=[], help="a tag for the resource; can be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the changes without making them")
    form = parser.add_mutually_exclusive_group()
    add_outcome_arguments(parser, form)
    form.add_argument(
        "--output",
        metavar="FORMAT",
        choices=FORMATS,
        help=f"change nothing, and print the resource in one of these formats: {', '.join(FORMATS)}",
    )
    parser.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument(
        "--region",
        metavar="NAME",
        help="the cluster's region, which also sets the partition [AWS_REGION, or the profile's]",
    )
    parser.add_argument(
        "--account-id",
        metavar="ID",
        help="stop if the credentials belong to another account; with --output, only --cluster needs credentials",
    )


def open_aws(args: argparse.Namespace) -> "Aws":
    """
    Return a client for AWS.

    Raises ConfigurationError if botocore is not installed.
    """
    return open_profile(args.profile, args.region)


def open_profile(profile: str | None, region: str | None) -> "Aws":
    """
    Return a client for AWS with the credentials of this profile. The first call reports a profile that does not exist.

    Raises ConfigurationError if botocore is not installed.
    """
    aws: Aws = import_extra("sidecar.setup.aws", "irsa-sidecar setup", "setup").Aws(profile, region)
    return aws


def is_offline(args: argparse.Namespace) -> bool:
    """Return whether --output and --account-id are set, so that the step needs no call to IAM or STS."""
    return bool(args.output and args.account_id)


def find_account(args: argparse.Namespace, aws: "Aws") -> Account:
    """
    Return the account of the credentials. With --output and --account-id, return the account of the flag.

    Raises ConfigurationError if --account-id is invalid or is not the account of the credentials.
    """
    if args.account_id and not re.fullmatch("[0-9]{12}", args.account_id):
        raise ConfigurationError(
            f"--account-id is {args.account_id!r}, which is not an account ID",
            fix="Use the 12 digits of an AWS account",
            setting="--account-id",
        )
    if is_offline(args):
        return aws.account_with_id(args.account_id)
    account = aws.account()
    if args.account_id not in (None, account.account_id):
        raise ConfigurationError(
            f"--account-id is {args.account_id}, but the credentials belong to {account.account_id}",
            fix="Use credentials of that account with --profile",
            setting="--account-id",
        )
    return account


def read_tags(texts: Iterable[str]) -> dict[str, str]:
    """
    Return the tags from --tag.

    Raises ConfigurationError if IAM would reject a tag.
    """
    tags = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"--tag is {text!r}, which IAM does not accept",
                fix="Use KEY=VALUE with letters, digits, spaces and _.:/=+@-. The key has at most 128 characters, the "
                "value at most 256",
                setting="--tag",
            )
        tags[key] = value
    return tags


def tags_of(response: Mapping[str, object]) -> dict[str, str]:
    """Return the tags in a response from IAM."""
    tags = response.get("Tags")
    return {tag["Key"]: tag["Value"] for tag in tags} if isinstance(tags, list) else {}


def check_issuer(url: str) -> None:
    """Raise ConfigurationError if IAM would reject the issuer's URL, or if STS could never reach the issuer."""
    if texts := fatal(url_concerns(url)):
        raise ConfigurationError(" ".join(texts))


def report_concerns(concerns: Iterable[Concern]) -> None:
    """
    Warn about each concern that is not fatal.

    Raises SidecarError if a concern is fatal.
    """
    found = [*concerns]
    for concern in found:
        if not concern.is_fatal:
            warn(concern.text)
    if texts := fatal(found):
        raise SidecarError(" ".join(texts))


def apply_plan(plan: Plan, args: argparse.Namespace, aws: "Aws", next_commands: tuple[str, ...] = ()) -> int:
    """
    Carry out the plan as the flags require, and return the exit status.

    With --output, print the planned resource in that format. Otherwise show the plan, and apply it unless --dry-run is
    set.

    Raises SidecarError if a call to AWS fails.
    """
    report_notes(plan, args)
    if args.output:
        sys.stdout.write(FORMATS[args.output](plan.planned))
        return 0
    outcome = outcome_of(plan, args.step_name, next_commands)
    if args.json:
        _apply_silently(plan, outcome, aws, dry_run=args.dry_run)
    else:
        show_plan(plan)
        _apply(plan, aws, dry_run=args.dry_run)
    return finish(outcome, args)


def report_notes(plan: Plan, args: argparse.Namespace) -> None:
    """Write the notes of a plan to stderr. With --output or --json, also write the effects that remove something."""
    for note in plan.notes:
        warn(note)
    if args.output or args.json:
        for effect in plan.effects:
            if effect.startswith(REMOVES):
                warn(f"{plan.title}: {effect}")


def outcome_of(plan: Plan, step: str, next_commands: tuple[str, ...] = ()) -> Outcome:
    before = None if plan.current is None else plan.current.document()
    changes = tuple(call.what for call in plan.calls)
    return Outcome(step, plan.title, changes, plan.effects, before, plan.planned.document(), next_commands)


def _apply_silently(plan: Plan, outcome: Outcome, aws: "Aws", *, dry_run: bool) -> None:
    """Make the calls without output. If a call fails, print the outcome with the number of completed calls."""
    done = 0
    try:
        for call in () if dry_run else plan.calls:
            aws.apply(call)
            done += 1
    except BaseException:
        print(as_json(outcome, dry_run=dry_run, done=done))
        raise


def show_plan(plan: Plan) -> None:
    """Print the difference that the plan makes, and its effects."""
    if not plan.calls:
        print(printable(f"{plan.title}: nothing to change"))
        return
    print(printable(f"{plan.title}: {'to be created' if plan.current is None else 'to be changed'}"))
    is_colour = sys.stdout.isatty() and wants_colours()
    for line in difference(None if plan.current is None else plan.current.document(), plan.planned.document()):
        shown = printable(line)
        print(coloured(shown) if is_colour else shown)
    for effect in plan.effects:
        print(printable(effect))


def _apply(plan: Plan, aws: "Aws", *, dry_run: bool) -> None:
    for call in plan.calls:
        if not dry_run:
            aws.apply(call)
        show_call(call, dry_run=dry_run)


def show_call(call: Call, *, dry_run: bool) -> None:
    print(printable(f"{'would ' if dry_run else 'done: '}{call.what}"))
