"""
Move the Pods of a namespace from IRSA, EKS Pod Identity or kube2iam to the sidecar or to EKS Pod Identity.

The command first shows what changes, what stays, and what cannot be kept. Then it adds the new source of credentials,
and restarts the workloads. With --finish, it removes the old source, if no Pod uses it any more. A record in the file
of --record contains each change, so an interrupted migration continues, and --undo restores the former state.
"""

import argparse
import os
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.console import show_progress
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS
from sidecar.printable import printable
from sidecar.role import parse_whole_number
from sidecar.setup.aws_steps import check_issuer, find_account, open_aws
from sidecar.setup.issuer_choice import add_issuer_arguments, find_issuer
from sidecar.setup.migration import Change, Goal, Kind, Phase, Plan, Source, plan_migration
from sidecar.setup.migration_facts import (
    check_injector,
    pods_without_sidecar,
    read_associations,
    read_roles,
    read_service_accounts,
)
from sidecar.setup.migration_record import Record, Worker, read_record, write_record
from sidecar.setup.resources import provider_arn
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
    mode.add_argument("--undo", action="store_true", help="undo all changes in the record, the last one first")
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
    goal = f"{args.namespace}: {args.source} to {args.target}"
    if record is not None and record.goal != goal:
        raise ConfigurationError(
            f"--record is {str(path)!r}, which belongs to another migration, {record.goal}",
            fix="Use another file",
            setting="--record",
        )
    with ExitStack() as stack:
        aws = stack.enter_context(open_aws(args))
        kubernetes = stack.enter_context(open_named_cluster(os.environ, args.context, "irsa-sidecar setup migrate"))
        worker = Worker(aws, kubernetes, args.cluster)
        if args.undo:
            return _undo(worker, path, record)
        if record is None:
            record = Record(goal, _planned(args, aws, kubernetes).changes)
        else:
            print(printable(f"{path}: {record.done} of {len(record.changes)} changes are made"))
        return _go_on(args, worker, kubernetes, path, record)


def _check(args: argparse.Namespace) -> None:
    if args.source == args.target:
        raise ConfigurationError(f"--from and --to are both {args.source}", fix="Set two sources", setting="--to")
    if not args.cluster and Source.POD_IDENTITY in (args.source, args.target):
        raise ConfigurationError(
            "--cluster is not set, and EKS Pod Identity works only in a cluster of EKS",
            fix="Set --cluster to the name of the EKS cluster",
            setting="--cluster",
        )


def _planned(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes") -> Plan:
    """Return the plan, after it is printed."""
    goal = _goal(args, aws, kubernetes)
    associations = read_associations(aws, args.cluster, args.namespace) if args.cluster else {}
    service_accounts = tuple(
        each
        for each in read_service_accounts(kubernetes, args.namespace, associations)
        if not args.service_account or each.name in args.service_account
    )
    if missing := {*args.service_account} - {each.name for each in service_accounts}:
        raise ConfigurationError(
            f"--service-account is {', '.join(sorted(missing))}, which {args.namespace} does not have",
            fix="Check the names",
            setting="--service-account",
        )
    plan = plan_migration(service_accounts, read_roles(aws, service_accounts, goal.source), goal)
    _show(plan)
    return plan


def _goal(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes") -> Goal:
    account, target = find_account(args, aws), Source(args.target)
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


def _go_on(args: argparse.Namespace, worker: Worker, kubernetes: "Kubernetes", path: Path, record: Record) -> int:
    """Make the changes of this phase that are not made yet."""
    left = record.changes[record.done :]
    now = left if args.finish else [change for change in left if change.phase is not Phase.FINISH]
    if args.finish:
        _check_finish(args, kubernetes, left)
    if args.dry_run:
        print("next: run this again without --dry-run")
        return 0
    for change in now:
        write_record(path, record)
        show_progress(change.title)
        worker.make(change)
        show_progress("")
        print(printable(f"done: {change.title}"))
        record = Record(record.goal, record.changes, record.done + 1)
    if now:
        write_record(path, record)
    if record.done < len(record.changes):
        print("next: when all Pods have restarted, run this again with --finish")
    return 0


def _check_finish(args: argparse.Namespace, kubernetes: "Kubernetes", left: Iterable[Change]) -> None:
    """
    Check that no Pod uses the old source any more.

    Raises SidecarError with the names of such Pods, or if a change of an earlier phase is missing.
    """
    changes = [*left]
    if any(change.phase is not Phase.FINISH for change in changes):
        raise SidecarError("The Pods were not switched yet", fix="Run this without --finish first")
    names = [change.target.partition("/")[2] for change in changes if change.kind is Kind.ASSOCIATION]
    if pods := pods_without_sidecar(kubernetes, args.namespace, names):
        raise SidecarError(
            f"{len(pods)} Pods have no sidecar yet, such as {', '.join(pods[:5])}",
            fix="Wait until they have restarted, or delete Pods without a workload",
        )


def _undo(worker: Worker, path: Path, record: Record | None) -> int:
    """Undo the changes that were made. A change that was interrupted is undone too, if it was made."""
    if record is None:
        raise ConfigurationError(
            f"--record is {str(path)!r}, and there is no such file, so nothing can be undone",
            fix="Use the file of the migration",
            setting="--record",
        )
    for done in range(min(record.done + 1, len(record.changes)), 0, -1):
        change = record.changes[done - 1].undone()
        worker.make(change)
        print(printable(f"done: {change.title}"))
        write_record(path, Record(record.goal, record.changes, done - 1))
    path.unlink()
    print("The former state is restored. Pods get it when their workloads have restarted.")
    return 0
