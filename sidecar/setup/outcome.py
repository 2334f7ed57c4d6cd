"""
Report the result of a `setup` step, as JSON, as an exit status, and as the next commands.

With --dry-run, the result is what the step would do.

Rule: the shape of the JSON document is stable. While `version` stays the same, keys are only added.
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
"""Version of the JSON document's schema."""

WOULD_CHANGE = 2
"""Exit status under --exit-code if something would change, as in `terraform plan -detailed-exitcode`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The result of a step.

    `changes` describe the changes in order. They are empty if nothing has to change. `before` is None for a new
    resource. `effects` describe the meaning of the changes, such as the service accounts that a role no longer trusts.
    `next_commands` are shell commands.
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
        """Return `none`, `create` or `change`."""
        if not self.changes:
            return "none"
        return "create" if self.before is None else "change"


def add_outcome_arguments(parser: argparse.ArgumentParser, form: argparse._ActionsContainer | None = None) -> None:
    """Add --json and --exit-code to the parser. `form` is the group of flags that exclude --json."""
    (form or parser).add_argument("--json", action="store_true", help="print the result as one JSON document")
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help=f"with --dry-run: exit with {WOULD_CHANGE} if something would change, and 1 on errors",
    )


def check_outcome_arguments(args: argparse.Namespace) -> None:
    """Raise ConfigurationError if --exit-code is used without --dry-run."""
    if args.exit_code and not args.dry_run:
        raise ConfigurationError(
            "--exit-code is used without --dry-run, but reports only changes that were not made",
            fix="Add --dry-run",
            setting="--exit-code",
        )


def as_json(outcome: Outcome, *, dry_run: bool, done: int, **more: Any) -> str:
    """Return the JSON document. `done` is the number of completed changes, and `more` are further keys."""
    return printable_json(json.dumps(as_document(outcome, dry_run=dry_run, done=done) | more, indent=2))


def as_document(outcome: Outcome, *, dry_run: bool, done: int) -> dict[str, Any]:
    return {
        "version": VERSION,
        "step": outcome.step,
        "resource": outcome.resource,
        "action": outcome.action,
        "dry_run": dry_run,
        "changes": [{"description": text, "done": index < done} for index, text in enumerate(outcome.changes)],
        "effects": list(outcome.effects),
        "before": outcome.before,
        "after": outcome.after,
        "next": list(outcome.next_commands),
    }


def finish(outcome: Outcome, args: argparse.Namespace) -> int:
    """Print the outcome as JSON, or print the next commands. Returns the exit status."""
    if args.json:
        print(as_json(outcome, dry_run=args.dry_run, done=0 if args.dry_run else len(outcome.changes)))
    elif args.dry_run and outcome.changes:
        print("next: run this again without --dry-run")
    else:
        for command in outcome.next_commands:
            print(printable(f"next: {command}"))
    return WOULD_CHANGE if args.exit_code and outcome.changes else 0


def command(*words: str, **flags: str | Sequence[str] | None) -> str:
    """Return a shell command without the flags whose value is None. The person replaces words in capitals."""
    arguments: list[str] = [*words]
    for name, value in flags.items():
        for item in [value] if isinstance(value, str) else value or ():
            arguments += [f"--{name.replace('_', '-')}", item]
    return shlex.join(arguments)


def issuer_flags(args: argparse.Namespace, issuer: str) -> Mapping[str, str | None]:
    """Return the flags that let the next step find the same issuer in the same account."""
    named = {"cluster": args.cluster} if args.cluster else {"issuer": issuer}
    return {**named, "profile": args.profile, "region": args.region}
