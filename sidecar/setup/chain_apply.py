"""
Show and make the changes of both roles of a chain, and report them.

Rule: the role of the Pods is changed first, because IAM accepts only existing roles as principals. If the other role
cannot be changed with these credentials, the result is partial. The output then has the statement for the administrator
of the other account.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import yaml

from sidecar.console import show_progress
from sidecar.errors import SidecarError
from sidecar.printable import printable
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import outcome_of, report_notes, show_call, show_plan
from sidecar.setup.chain_sides import Side
from sidecar.setup.outcome import WOULD_CHANGE, as_document, as_json
from sidecar.setup.output_formats import FORMATS
from sidecar.setup.plan import Call
from sidecar.setup.role_chain import ChainChange, ChainGrant, granted

ATTEMPTS, PAUSE_SECONDS = 10, 3.0
"""Attempts to name a new role as principal, and the pause between them. IAM needs some seconds to publish a role."""


def apply_chain(own: Side, other: Side, chain: ChainChange, args: argparse.Namespace) -> int:
    """
    Carry out both plans as the flags require, and return the exit status.

    With --output, print the role of the Pods in that format. Otherwise show the plans, and apply them unless --dry-run
    is set.

    Raises SidecarError if a call for the role of the Pods fails.
    """
    assert own.plan is not None
    for side in (own, other):
        if side.plan is not None:
            report_notes(side.plan, args)
    if args.output:
        sys.stdout.write(FORMATS[args.output](own.plan.planned))
        _print(_instruction(other, chain), sys.stderr)
        return 0
    try:
        _change(own, args, is_new=False)
        _change_other(other, args, is_new=own.plan.current is None)
    finally:
        if args.json:
            print(_json(own, other, chain, args))
    if not args.json:
        _print(_report(own, other, chain, args), sys.stdout)
    return _status(own, other, args)


def _print(texts: Iterator[str], stream: TextIO) -> None:
    """Print each line without additional indentation, so that a person can copy the lines."""
    for line in "\n".join(texts).splitlines():
        print(printable(line), file=stream)


def _change(side: Side, args: argparse.Namespace, *, is_new: bool) -> None:
    """
    Show the plan unless --json is set, and make its calls unless --dry-run is set.

    `is_new` is true if the calls name a role that was just created.
    """
    assert side.plan is not None
    if not args.json:
        show_plan(side.plan)
    for call in side.plan.calls:
        if not args.dry_run:
            _make(side, call, ATTEMPTS if is_new else 1)
            side.done += 1
        if not args.json:
            show_call(call, dry_run=args.dry_run)


def _make(side: Side, call: Call, attempts: int) -> None:
    assert side.aws is not None
    for left in range(attempts - 1, -1, -1):
        try:
            return side.aws.apply(call)
        except AwsError as exc:
            if exc.code != "MalformedPolicyDocument" or not left:
                raise
        show_progress("waiting until the other account knows the new role")
        time.sleep(PAUSE_SECONDS)
        show_progress("")
    return None


def _change_other(other: Side, args: argparse.Namespace, *, is_new: bool) -> None:
    if other.plan is None:
        return
    try:
        _change(other, args, is_new=is_new)
    except SidecarError as exc:
        other.problem = str(exc)


def _current_grant(other: Side, chain: ChainChange) -> ChainGrant:
    """Return the grant with the values that the other role's trust policy already has."""
    current = None if other.plan is None else other.plan.current
    return granted(None if current is None else current.document()["AssumeRolePolicyDocument"], chain)


def _instruction(other: Side, chain: ChainChange) -> Iterator[str]:
    """Yield the lines with the change that the other account's administrator must make."""
    grant = _current_grant(other, chain)
    target = grant.target
    yield f"{target.title}: not changed. {other.problem.removesuffix('.')}."
    if chain.is_removal:
        yield f"An administrator of account {target.account_id} must remove the statement {grant.sid} from its policy."
        return
    yield f"An administrator of account {target.account_id} must add this statement to its trust policy:"
    yield json.dumps(grant.statement(), indent=2)


def _report(own: Side, other: Side, chain: ChainChange, args: argparse.Namespace) -> Iterator[str]:
    if other.problem:
        yield from _instruction(other, chain)
    elif other.plan is None:
        yield f"{chain.grant.target.title}: does not exist, so nothing to change"
    if not chain.is_removal:
        entry = yaml.safe_dump([_current_grant(other, chain).roles_entry()], sort_keys=False, width=10_000)
        yield "Write this entry into the annotation irsa-sidecar.io/roles of the Pods, or into the roles file:"
        yield entry.rstrip()
    if args.dry_run and _has_changes(own, other):
        yield "next: run this again without --dry-run"


def _json(own: Side, other: Side, chain: ChainChange, args: argparse.Namespace) -> str:
    assert own.plan is not None
    grant = _current_grant(other, chain)
    side: dict[str, Any] = {"resource": grant.target.title, "action": "none", "changes": []}
    if other.plan is not None:
        outcome = outcome_of(other.plan, args.step_name)
        document = as_document(outcome, dry_run=args.dry_run, done=other.done)
        side |= {name: document[name] for name in ("action", "changes", "effects", "before", "after")}
    entry = None if chain.is_removal else grant.roles_entry()
    side |= {"problem": other.problem or None, "statement": grant.statement(), "roles_entry": entry}
    return as_json(outcome_of(own.plan, args.step_name), dry_run=args.dry_run, done=own.done, chain=side)


def _has_changes(*sides: Side) -> bool:
    return any(side.plan is not None and side.plan.calls for side in sides)


def _status(own: Side, other: Side, args: argparse.Namespace) -> int:
    if other.problem and other.is_wanted:
        return 1
    return WOULD_CHANGE if args.exit_code and _has_changes(own, other) else 0
