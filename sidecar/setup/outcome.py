"""
What a step of `setup` did, or would do with --dry-run: as JSON, as an exit status, and what to run next.

Rule: the document's shape is stable. Keys are only added while `version` stays.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.printable import printable, printable_json

VERSION = 1
"""Version of the JSON document."""

WOULD_CHANGE = 2
"""Exit status of --exit-code if something would change (that of `terraform plan -detailed-exitcode`)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    `changes` say in words what is done, in order; none if nothing has to be. `before` is None for something new.

    `effects` say what the changes mean, such as whom a role no longer trusts. `next_commands` are commands to run next.
    """

    step: str
    resource: str
    changes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    before: Any = None
    after: Any = None
    next_commands: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        if not self.changes:
            return "none"
        return "create" if self.before is None else "change"


def add_outcome_arguments(parser: argparse.ArgumentParser, form: argparse._ActionsContainer | None = None) -> None:
    """`form` is the group of flags that exclude --json."""
    (form or parser).add_argument(
        "--json", action="store_true", help="for machines: one document of what was or would be done"
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help=f"with --dry-run: {WOULD_CHANGE} if something would change, 1 on errors",
    )


def check_outcome_arguments(args: argparse.Namespace) -> None:
    """Raise ConfigurationError for --exit-code without --dry-run."""
    if args.exit_code and not args.dry_run:
        raise ConfigurationError("--exit-code is given without --dry-run: it says what would change. Add --dry-run.")


def as_json(outcome: Outcome, *, dry_run: bool, done: int) -> str:
    """Return the document. `done` is how many of the changes were made."""
    document = {
        "version": VERSION,
        "step": outcome.step,
        "resource": outcome.resource,
        "action": outcome.action,
        "dry_run": dry_run,
        "changes": [{"what": what, "done": index < done} for index, what in enumerate(outcome.changes)],
        "effects": list(outcome.effects),
        "before": outcome.before,
        "after": outcome.after,
        "next": list(outcome.next_commands),
    }
    return printable_json(json.dumps(document, indent=2))


def finish(outcome: Outcome, args: argparse.Namespace) -> int:
    """Print the outcome as JSON, or what to run next. Returns the exit status."""
    if args.json:
        print(as_json(outcome, dry_run=args.dry_run, done=0 if args.dry_run else len(outcome.changes)))
    elif args.dry_run and outcome.changes:
        print("next: run this again without --dry-run")
    else:
        for command in outcome.next_commands:
            print(printable(f"next: {command}"))
    return WOULD_CHANGE if args.exit_code and outcome.changes else 0


def command(*words: str, **flags: str | Sequence[str] | None) -> str:
    """Return a shell command. Flags that are None are left out; a word in capitals is for the person to replace."""
    given: list[str] = [*words]
    for name, value in flags.items():
        for item in [value] if isinstance(value, str) else value or ():
            given += [f"--{name.replace('_', '-')}", item]
    return shlex.join(given)


def issuer_flags(args: argparse.Namespace, issuer: str) -> Mapping[str, str | None]:
    """Return the flags by which the next step finds the same issuer in the same account."""
    named = {"cluster": args.cluster} if args.cluster else {"issuer": issuer}
    return {**named, "profile": args.profile, "region": args.region}
