"""
Move the Pods of a namespace from IRSA, EKS Pod Identity or kube2iam to the sidecar or to EKS Pod Identity.

The command first shows what changes, what stays, and what cannot be kept. Then it adds the new source of credentials,
and restarts the workloads. With --finish, it removes the old source, if no Pod uses it any more. A record in the file
of --record contains each change, so an interrupted migration continues, and --undo restores the former state. If Pods
still use the new source after --undo, run --undo again after they have restarted.
"""

import argparse
import os
import re
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.console import remark, show_progress, warn
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.kubernetes.names import NAMESPACE
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS
from sidecar.printable import printable
from sidecar.role import parse_whole_number
from sidecar.setup.aws_steps import check_issuer, find_account, open_aws
from sidecar.setup.issuer_choice import add_issuer_arguments, check_same_cluster, find_issuer
from sidecar.setup.migration import Change, Goal, Kind, Phase, Plan, ServiceAccount, Source, undo_of
from sidecar.setup.migration_facts import (
    check_injector,
    has_pod_identity,
    has_sidecar,
    lacks_sidecar,
    read_associations,
    read_roles,
    read_service_accounts,
    running_pods,
)
from sidecar.setup.migration_record import MissingTargetError, Record, Worker, read_record, write_record
from sidecar.setup.plan_migration import plan_migration
from sidecar.setup.resources import Account, provider_arn
from sidecar.setup.restart_check import check_restarts
from sidecar.setup.steps.oidc_provider import read_provider

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.setup.aws import Aws

_FROM = (Source.IRSA, Source.POD_IDENTITY, Source.KUBE2IAM)
_TO = (Source.SIDECAR, Source.POD_IDENTITY)

EXAMPLE = """\
examples:
  irsa-sidecar setup migrate --from pod-identity --to sidecar --cluster shop --namespace shop --dry-run
  irsa-sidecar setup migrate --from pod-identity --to sidecar --cluster shop --namespace shop
  irsa-sidecar setup migrate --from pod-identity --to sidecar --cluster shop --namespace shop --finish
  irsa-sidecar setup migrate --from pod-identity --to sidecar --cluster shop --namespace shop --undo"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(output=None)
    parser.add_argument("--from", dest="source", choices=list(map(str, _FROM)), required=True, help="the old source")
    parser.add_argument("--to", dest="target", choices=list(map(str, _TO)), required=True, help="the new source")
    parser.add_argument("--namespace", metavar="NAME", required=True, help="the namespace whose Pods are moved")
    parser.add_argument(
        "--service-account",
        metavar="NAME",
        action="append",
        default=[],
        help="move only this ServiceAccount; can be repeated [all of the namespace]",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="show the plan without making changes")
    mode.add_argument("--finish", action="store_true", help="remove the old source, if no Pod uses it any more")
    mode.add_argument("--undo", action="store_true", help="restore the former state from the record")
    parser.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="file for the changes and their undo [irsa-sidecar-migration-NAMESPACE.json]",
    )
    parser.add_argument(
        "--trust-policy-limit",
        metavar="CHARACTERS",
        default=str(DEFAULT_POLICY_CHARACTERS),
        help=f"your quota for the size of trust policies, if it was raised [{DEFAULT_POLICY_CHARACTERS}]",
    )
    add_issuer_arguments(parser)
    parser.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument("--region", metavar="NAME", help="the cluster's region [AWS_REGION, or the profile's]")
    parser.add_argument("--account-id", metavar="ID", help="stop if the credentials belong to another account")


def main(args: argparse.Namespace) -> int:
    _check(args)
    path = args.record or Path(f"irsa-sidecar-migration-{args.namespace}.json")
    record = read_record(path)
    with ExitStack() as stack:
        aws = stack.enter_context(open_aws(args))
        kubernetes = stack.enter_context(open_named_cluster(os.environ, args.context, "irsa-sidecar setup migrate"))
        account = find_account(args, aws)
        check_same_cluster(args, aws, kubernetes)
        goal = _goal_text(args, kubernetes.server, account)
        _check_record(args, path, record, goal)
        worker = Worker(aws, kubernetes, args.cluster)
        if record is None:
            plan = _planned(args, aws, kubernetes, account)
            record = Record(goal, plan.changes, plan.moved)
        else:
            if args.undo and not record.is_undo:
                record = _undone(worker, record)
            _show_rest(path, record)
        return _go_on(args, worker, kubernetes, path, record)


def _goal_text(args: argparse.Namespace, server: str, account: Account) -> str:
    """Return a text that differs for another cluster, account or selection, so that their records are not mixed."""
    names = ", ".join(sorted({*args.service_account})) or "all ServiceAccounts"
    move = f"{args.namespace}: {args.source} to {args.target} for {names}"
    return f"{move}, in {server} and account {account.account_id}"


def _check_record(args: argparse.Namespace, path: Path, record: Record | None, goal: str) -> None:
    """Raise ConfigurationError if the record is missing, or belongs to another migration or to an undo."""
    problem, fix = "", "Use another file"
    if record is None and args.undo:
        problem, fix = "and there is no such file, so nothing can be undone", "Use the file of the migration"
    elif record is not None and record.goal != goal:
        problem = f"which belongs to another migration, {record.goal}"
    elif record is not None and record.is_undo and not args.undo:
        problem, fix = "which belongs to an undo that is not complete", "Run this with --undo"
    if problem:
        raise ConfigurationError(f"--record is {str(path)!r}, {problem}", fix=fix, setting="--record")


def _check(args: argparse.Namespace) -> None:
    if args.source == args.target:
        raise ConfigurationError(f"--from and --to are both {args.source}", fix="Set two sources", setting="--to")
    if not re.fullmatch(NAMESPACE, args.namespace):
        raise ConfigurationError(
            f"--namespace is {args.namespace[:100]!r}, which is not a namespace's name",
            fix="Use lower-case letters, digits and hyphens",
            setting="--namespace",
        )
    if not args.cluster and Source.POD_IDENTITY in (args.source, args.target):
        raise ConfigurationError(
            "--cluster is not set, and EKS Pod Identity works only in a cluster of EKS",
            fix="Set --cluster to the name of the EKS cluster",
            setting="--cluster",
        )


def _found(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes") -> tuple[ServiceAccount, ...]:
    """
    Return the ServiceAccounts that the flags select.

    Raises ConfigurationError if the namespace or a ServiceAccount does not exist.
    """
    associations = read_associations(aws, args.cluster, args.namespace) if args.cluster else {}
    every = read_service_accounts(kubernetes, args.namespace, associations)
    if not every:
        raise ConfigurationError(
            f"--namespace is {args.namespace}, which does not exist or has no ServiceAccount",
            fix="Check the name and --context",
            setting="--namespace",
        )
    if missing := {*args.service_account} - {each.name for each in every}:
        raise ConfigurationError(
            f"--service-account is {', '.join(sorted(missing))}, which {args.namespace} does not have",
            fix="Check the names",
            setting="--service-account",
        )
    return tuple(each for each in every if not args.service_account or each.name in args.service_account)


def _planned(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes", account: Account) -> Plan:
    """Return the plan, after it is printed."""
    goal = _goal(args, aws, kubernetes, account)
    service_accounts = _found(args, aws, kubernetes)
    plan = plan_migration(service_accounts, read_roles(aws, service_accounts, goal.source), goal)
    _show(plan)
    return plan


def _goal(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes", account: Account) -> Goal:
    target = Source(args.target)
    issuer = arn = ""
    if target is Source.SIDECAR:
        check_injector(kubernetes)
        issuer = find_issuer(args, aws).url
        check_issuer(issuer)
        arn = provider_arn(account, issuer)
        if read_provider(aws, arn, issuer) is None:
            raise SidecarError(
                f"The account has no OIDC provider of {issuer}", fix="Create it: irsa-sidecar setup oidc-provider"
            )
    limit = parse_whole_number("--trust-policy-limit", args.trust_policy_limit, DEFAULT_POLICY_CHARACTERS, 8_192)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Goal(Source(args.source), target, args.cluster, issuer, arn, limit, now)


def _show(plan: Plan) -> None:
    for word, sentences in (("stays", plan.kept), ("cannot be kept", plan.lost)):
        for sentence in sentences:
            print(printable(f"{word}: {sentence}"))
    for change in plan.changes:
        print(printable(f"{change.phase}: {change.title}"))
    if not plan.changes:
        print("nothing to change")


def _show_rest(path: Path, record: Record) -> None:
    """Print the changes of a record that are not made yet."""
    print(printable(f"{path}: {record.done} of {len(record.changes)} changes are made"))
    for change in record.left:
        print(printable(f"{change.phase}: {change.title}"))


def _go_on(args: argparse.Namespace, worker: Worker, kubernetes: "Kubernetes", path: Path, record: Record) -> int:
    """Make the changes of this phase that are not made yet."""
    if args.finish:
        _check_finish(args, kubernetes, record)
    if args.dry_run:
        print("next: run this again without --dry-run")
        return 0
    if not args.finish:
        record = _make(worker, path, record, (Phase.PREPARE,))
        _check_restarts(args, kubernetes, record)
        record = _make(worker, path, record, (Phase.SWITCH,))
    if args.finish or (args.undo and not _pods_left(args, kubernetes, record)):
        record = _make(worker, path, record, (Phase.FINISH,))
    return _ended(args, path, record)


def _check_restarts(args: argparse.Namespace, kubernetes: "Kubernetes", record: Record) -> None:
    """
    Check that restarted Pods would get their credentials. An undo continues in any case, because it restores a state.

    Raises SidecarError if a Pod would not get them.
    """
    source = Source(args.source if record.is_undo else args.target)
    try:
        check_restarts(kubernetes, [each for each in record.left if each.phase is Phase.SWITCH], source)
    except SidecarError as exc:
        if not record.is_undo:
            raise
        warn(str(exc))


def _make(worker: Worker, path: Path, record: Record, phases: Collection[Phase]) -> Record:
    """Make the changes of these phases, and write the record before the first change and after each change."""
    for change in [each for each in record.left if each.phase in phases]:
        write_record(path, record)
        _make_one(worker, change, record)
        record = replace(record, done=record.done + 1)
        write_record(path, record)
    return record


def _make_one(worker: Worker, change: Change, record: Record) -> None:
    """Make a change. A deleted workload needs no restart, and an undo needs no deleted target."""
    show_progress(change.title)
    try:
        worker.make(change)
    except MissingTargetError as exc:
        if not record.is_undo and change.kind is not Kind.TEMPLATE:
            raise
        remark(f"{exc.problem}, so this is not done: {change.title}")
        return
    finally:
        show_progress("")
    print(printable(f"done: {change.title}"))


def _ended(args: argparse.Namespace, path: Path, record: Record) -> int:
    flag = "--undo" if args.undo else "--finish"
    if record.left:
        print(f"next: when all Pods have restarted, run this again with {flag}")
    elif args.undo:
        path.unlink(missing_ok=True)
        print("The former state is restored.")
    elif record.changes:
        print(printable(f"The migration is complete. To move other workloads, first move {path} away."))
    return 0


def _pods_left(args: argparse.Namespace, kubernetes: "Kubernetes", record: Record) -> tuple[str, ...]:
    """Return the Pods that use the source that the last changes would remove."""
    if not record.left:
        return ()
    uses_new_source = has_sidecar if args.target == Source.SIDECAR else has_pod_identity
    is_wanted = uses_new_source if record.is_undo else lacks_sidecar
    return running_pods(kubernetes, args.namespace, record.moved, is_wanted)


def _check_finish(args: argparse.Namespace, kubernetes: "Kubernetes", record: Record) -> None:
    """
    Check that no Pod uses the old source any more.

    Raises SidecarError with the names of such Pods, or if a change of an earlier phase is missing.
    """
    if any(change.phase is not Phase.FINISH for change in record.left):
        raise SidecarError("The Pods were not switched yet", fix="Run this without --finish first")
    if pods := _pods_left(args, kubernetes, record):
        raise SidecarError(
            f"{len(pods)} Pods have no sidecar yet, such as {', '.join(pods[:5])}",
            fix="Wait until they have restarted, or delete Pods without a workload",
        )


def _undone(worker: Worker, record: Record) -> Record:
    """Return the record of the undo. A change that was interrupted is undone too, if it was made."""
    unsure = [change for change in record.left[:1] if worker.is_made(change)]
    changes = undo_of([*record.changes[: record.done], *unsure])
    return replace(record, changes=changes, done=0, is_undo=True)
