"""
Give a new cluster the access of another cluster in every role of the account, or remove a cluster from every role.

With --like, the command copies each statement for that cluster, and the copy is for the new cluster. With --retire, it
removes the statements for that cluster. The command lists all changes first. It makes only the changes that are
missing, so run it again after an interruption. Create the OIDC provider of the new cluster before you run the command.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sidecar.console import show_progress, warn
from sidecar.errors import ConfigurationError, SidecarError, sentences
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS, MAX_POLICY_CHARACTERS
from sidecar.printable import printable, printable_json
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import check_issuer, find_account, open_aws
from sidecar.setup.cluster_trust import ClusterIssuer
from sidecar.setup.issuer_choice import add_issuer_arguments, find_issuer, issuer_of_eks
from sidecar.setup.outcome import VERSION, WOULD_CHANGE, add_outcome_arguments, check_outcome_arguments
from sidecar.setup.plan import Plan, coloured, difference
from sidecar.setup.plan_cluster import ClusterPlan, plan_copy, plan_retirement
from sidecar.setup.read_role import read_role, role_of
from sidecar.setup.resources import Account, IamRole, provider_arn
from sidecar.setup.steps.oidc_provider import read_provider
from sidecar.terminal import wants_colours

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

FAILURES = 5
"""Number of roles that are tried if none of them can be changed, because the reason then probably affects all roles."""

_OF_ONE_ROLE = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "UnmodifiableEntity", "NoSuchEntity", "ConcurrentModification"),
        *("MalformedPolicyDocument", "LimitExceeded"),
    }
)
"""The error codes that can concern one role only, such as a role that a policy of the organization protects."""

EXAMPLE = """\
examples:
  irsa-sidecar setup cluster --like blue --cluster green --dry-run
  irsa-sidecar setup cluster --like https://oidc.example.com/blue --issuer https://oidc.example.com/green
  irsa-sidecar setup cluster --retire blue"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(step_name="cluster", output=None)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--like", metavar="CLUSTER", help="EKS cluster or issuer URL whose access the new cluster gets")
    kind.add_argument("--retire", metavar="CLUSTER", help="EKS cluster or issuer URL to remove from all roles")
    add_issuer_arguments(parser)
    parser.add_argument(
        "--trust-policy-limit",
        metavar="CHARACTERS",
        type=int,
        default=DEFAULT_POLICY_CHARACTERS,
        help=f"your quota for the size of trust policies, if it was raised [{DEFAULT_POLICY_CHARACTERS}]",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the changes without making them")
    parser.add_argument("--diff", action="store_true", help="show the changed lines of each trust policy")
    add_outcome_arguments(parser)
    parser.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument("--region", metavar="NAME", help="the clusters' region [AWS_REGION, or the profile's]")
    parser.add_argument("--account-id", metavar="ID", help="stop if the credentials belong to another account")


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    if not DEFAULT_POLICY_CHARACTERS <= args.trust_policy_limit <= MAX_POLICY_CHARACTERS:
        raise ConfigurationError(
            f"--trust-policy-limit is {args.trust_policy_limit}, which IAM does not allow",
            fix=f"Use {DEFAULT_POLICY_CHARACTERS} to {MAX_POLICY_CHARACTERS}",
            setting="--trust-policy-limit",
        )
    with open_aws(args) as aws:
        plan = _plan(args, aws, find_account(args, aws))
        problems: list[str] = []
        if not args.json:
            _show(plan, args)
        try:
            for each in () if args.dry_run else plan.plans:
                problems.append(_problem(each, aws))
                show_progress(f"{problems.count('')} of {len(plan.plans)} roles are changed")
                if len(problems) == FAILURES and all(problems):
                    break
        finally:
            show_progress("")
            _report(plan, args, problems)
    return 1 if any(problems) else _status(plan, args)


def _plan(args: argparse.Namespace, aws: "Aws", account: Account) -> ClusterPlan:
    if args.retire:
        retired = _issuer(args.retire, aws, account)
        return plan_retirement(_roles(aws), retired)
    like = _issuer(args.like, aws, account)
    new = find_issuer(args, aws).url
    check_issuer(new)
    if new == like.url:
        raise ConfigurationError(
            f"--like and the new cluster have the same issuer, {new}", fix="Use another cluster", setting="--like"
        )
    copy = ClusterIssuer(new, provider_arn(account, new))
    _check_provider(aws, copy)
    return plan_copy(_roles(aws), like, copy, args.trust_policy_limit)


def _issuer(text: str, aws: "Aws", account: Account) -> ClusterIssuer:
    """Return the issuer for its URL, or for the name of an EKS cluster."""
    url = text if "://" in text else issuer_of_eks(aws.call("eks", "DescribeCluster", name=text)["cluster"])
    check_issuer(url)
    return ClusterIssuer(url, provider_arn(account, url))


def _check_provider(aws: "Aws", issuer: ClusterIssuer) -> None:
    """
    Check that the new cluster has an OIDC provider.

    Raises SidecarError if it has none, because all changed roles would reject its Pods.
    """
    if read_provider(aws, issuer.provider_arn, issuer.url) is None:
        raise SidecarError(
            f"The account has no OIDC provider of {issuer.url}",
            fix="Create it first: irsa-sidecar setup oidc-provider",
        )


def _roles(aws: "Aws") -> list[IamRole]:
    listed = aws.call("iam", "ListRoles")["Roles"]
    return [role_of(each) for each in listed if isinstance(each["AssumeRolePolicyDocument"], dict)]


def _problem(plan: Plan, aws: "Aws") -> str:
    """
    Change one role. Return the reason why this role cannot be changed, or "".

    IAM has no conditional write, so the role is read again first.

    Raises SidecarError for an error that is not about this role.
    """
    assert isinstance(plan.current, IamRole)
    try:
        current = read_role(aws, plan.current.name)
        if current is None or current.trust_policy != plan.current.trust_policy:
            return f"{plan.title} was changed or deleted by somebody else since this command read it. Run this again."
        for call in plan.calls:
            aws.apply(call)
    except AwsError as exc:
        if exc.code not in _OF_ONE_ROLE:
            raise
        return f"{plan.title}: {exc}"
    return ""


def _show(plan: ClusterPlan, args: argparse.Namespace) -> None:
    for each in plan.plans:
        print(printable(f"{each.title}: {'; '.join(each.effects)}"))
        if args.diff and isinstance(each.current, IamRole):
            _show_difference(each.current, each.planned.document())
    verb = "would be changed" if args.dry_run else "are to be changed"
    print(f"{len(plan.plans)} roles {verb}, {plan.unchanged} need no change, {len(plan.obstacles)} cannot be changed")
    for each in plan.plans:
        for note in each.notes:
            warn(f"{each.title}: {note}")
    for title, (problem, fix) in _texts(plan):
        warn(f"{title}: {sentences(problem, fix)}")


def _show_difference(current: IamRole, planned: dict[str, Any]) -> None:
    is_colour = sys.stdout.isatty() and wants_colours()
    for line in difference(current.document(), planned):
        shown = printable(line)
        print(coloured(shown) if is_colour else shown)


def _texts(plan: ClusterPlan) -> Sequence[tuple[str, tuple[str, str]]]:
    return [(title, (text.problem, text.fix)) for title, text in plan.obstacles]


def _report(plan: ClusterPlan, args: argparse.Namespace, problems: Sequence[str]) -> None:
    """Report the roles. `problems` has an entry for each role that was tried, which is empty if it was changed."""
    for problem in filter(None, problems):
        warn(problem)
    if args.json:
        print(_as_json(plan, problems, dry_run=args.dry_run))
    elif args.dry_run:
        if plan.plans:
            print("next: run this again without --dry-run")
    elif plan.plans:
        done = problems.count("")
        left = "" if done == len(plan.plans) else " Run this again to continue."
        print(f"done: {done} of {len(plan.plans)} roles are changed.{left}")


def _as_json(plan: ClusterPlan, problems: Sequence[str], *, dry_run: bool) -> str:
    document = {
        "version": VERSION,
        "step": "cluster",
        "dry_run": dry_run,
        "roles": [
            {
                "role": each.title,
                "done": index < len(problems) and not problems[index],
                "problem": (problems[index] or None) if index < len(problems) else None,
                "before": None if each.current is None else each.current.document(),
                "after": each.planned.document(),
                "notes": list(each.notes),
            }
            for index, each in enumerate(plan.plans)
        ],
        "unchanged": plan.unchanged,
        "obstacles": [{"role": title, "problem": problem, "fix": fix} for title, (problem, fix) in _texts(plan)],
    }
    return printable_json(json.dumps(document, indent=2))


def _status(plan: ClusterPlan, args: argparse.Namespace) -> int:
    if plan.obstacles:
        return 1
    return WOULD_CHANGE if args.exit_code and plan.plans else 0
