"""
Read the flags of a role chain, and plan the change of the role that is assumed, in this account or in another one.

Rule: everything that a person can correct is found here, before the first change. Missing rights in the other account
do not raise an error, because its administrator can make the change.
"""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.errors import ConfigurationError
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import open_profile
from sidecar.setup.plan import Plan
from sidecar.setup.plan_chain import plan_target
from sidecar.setup.read_role import read_role
from sidecar.setup.resources import Account, IamRole
from sidecar.setup.role_chain import ChainChange, ChainGrant, Target, parse_external_id, parse_target
from sidecar.setup.trust_policy import Change

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws


@dataclass(slots=True)
class Side:
    """
    One role of the chain. `done` counts its completed calls.

    `plan` is None if the role is not changed. `problem` is the reason why it was not changed, or "" if there is no
    problem. `is_wanted` is false if the flags do not request the change.
    """

    plan: Plan | None = None
    aws: "Aws | None" = None
    problem: str = ""
    done: int = 0
    is_wanted: bool = True


def add_chain_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("role chain")
    group.add_argument("--chain-to", metavar="ARN", help="another role that this role may assume")
    group.add_argument("--external-id", metavar="ID", help="the external id that the other role requires")
    group.add_argument(
        "--chain-tags", action="store_true", help="also allow session tags in the chain (sts:TagSession)"
    )
    group.add_argument(
        "--chain-profile", metavar="NAME", help="a profile of ~/.aws/config for the account of the other role"
    )
    group.add_argument(
        "--chain-create", action="store_true", help="create the other role, without permissions, if it does not exist"
    )


def check_chain_arguments(args: argparse.Namespace) -> None:
    """Raise ConfigurationError if a flag of the chain is invalid, or is set without --chain-to."""
    flags = {
        "--external-id": args.external_id,
        "--chain-tags": args.chain_tags,
        "--chain-profile": args.chain_profile,
        "--chain-create": args.chain_create,
    }
    for flag, value in flags.items():
        if value and args.chain_to is None:
            raise ConfigurationError(f"{flag} is set, but --chain-to is not", fix="Set --chain-to", setting=flag)
    if args.chain_to is not None:
        parse_target("--chain-to", args.chain_to)
        _check_replace(args)
    if args.external_id is not None:
        parse_external_id("--external-id", args.external_id)


def is_chain_only(args: argparse.Namespace) -> bool:
    """Return whether the flags name only a chain, so that the trust policy of the Pods' role is not changed."""
    return bool(args.chain_to) and not args.service_account and not args.token_file


def _check_replace(args: argparse.Namespace) -> None:
    if args.replace and is_chain_only(args):
        raise ConfigurationError(
            "--replace is set, but --service-account is not, and --replace does not change chains",
            fix="Name the service accounts, or leave --replace out",
            setting="--replace",
        )


def read_chain(args: argparse.Namespace, source_arn: str, account: Account) -> ChainChange:
    """
    Return the requested change of the chain that begins at the role `source_arn` of this account.

    Raises ConfigurationError if no such chain is possible.
    """
    target = parse_target("--chain-to", args.chain_to)
    if target.arn == source_arn:
        raise ConfigurationError(
            f"--chain-to is {target.arn}, which is the role itself", fix="Name another role", setting="--chain-to"
        )
    if target.partition != account.partition:
        raise ConfigurationError(
            f"--chain-to is {target.arn}, but the role is in the partition {account.partition}",
            fix=f"Use a role of the partition {account.partition}",
            setting="--chain-to",
        )
    change = Change.REMOVE if args.remove else Change.ADD
    grant = ChainGrant(source_arn, target, args.external_id, args.chain_tags)
    drops_external_id = "external-id" in args.drop_condition
    return ChainChange(grant, change, drops_external_id, args.overwrite_edits)


def find_other_side(
    args: argparse.Namespace, chain: ChainChange, account: Account, aws: "Aws", stack: ExitStack
) -> Side:
    """
    Return the plan for the role that is assumed, or the reason why it cannot be changed here.

    The result has neither if the trust is to be removed from a role that does not exist.

    Raises SidecarError if a flag is wrong, or if AWS cannot be called.
    """
    target = chain.grant.target
    if args.output:
        return Side(problem="--output changes nothing", is_wanted=False)
    if args.chain_profile is not None:
        aws = stack.enter_context(open_profile(args.chain_profile, args.region))
        _check_account(aws.account(), target, args.chain_profile)
    elif target.account_id != account.account_id:
        return Side(problem="--chain-profile is not set", is_wanted=False)
    try:
        current = _read_target(aws, target)
    except AwsError as exc:
        if not exc.code.startswith("AccessDenied"):
            raise
        return Side(problem=exc.problem)
    if current is None and chain.is_removal:
        return Side()
    if current is None and not args.chain_create:
        raise ConfigurationError(
            f"--chain-to is {target.arn}, but account {target.account_id} has no such role",
            fix="Correct the ARN, or add --chain-create to create the role without permissions",
            setting="--chain-to",
        )
    return Side(plan_target(current, chain, args.trust_policy_limit), aws)


def _check_account(account: Account, target: Target, profile: str) -> None:
    if account.account_id != target.account_id:
        raise ConfigurationError(
            f"--chain-profile is {profile!r}, whose credentials belong to account {account.account_id}, but --chain-to "
            f"is in account {target.account_id}",
            fix="Use a profile of that account",
            setting="--chain-profile",
        )


def _read_target(aws: "Aws", target: Target) -> IamRole | None:
    found = read_role(aws, target.name)
    if found is not None and found.arn != target.arn:
        raise ConfigurationError(
            f"--chain-to is {target.arn}, but the role {target.name} has the ARN {found.arn}",
            fix="Use this ARN",
            setting="--chain-to",
        )
    return found
