"""
Create an IAM role, or change an existing role, so that a cluster's service accounts can assume it.

The command adds the issuer, the audience and the full names of the service accounts to the trust policy. With
--replace or --remove, it removes service accounts, and lists them first. It does not change statements that other
people wrote or that are for other clusters, and never removes tags or policies of other people.
"""

import argparse
import os
import re
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.console import warn
from sidecar.errors import ConfigurationError
from sidecar.local.trust_policy import DEFAULT_POLICY_CHARACTERS, MAX_POLICY_CHARACTERS
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import (
    add_aws_arguments,
    apply_plan,
    check_issuer,
    find_account,
    is_offline,
    open_aws,
    read_tags,
)
from sidecar.setup.chain_apply import apply_chain
from sidecar.setup.chain_sides import (
    Side,
    add_chain_arguments,
    check_chain_arguments,
    find_other_side,
    is_chain_only,
    read_chain,
)
from sidecar.setup.condition_flags import add_condition_arguments, check_condition_arguments, find_conditions
from sidecar.setup.issuer_choice import Issuer, add_issuer_arguments, find_issuer
from sidecar.setup.outcome import check_outcome_arguments, command
from sidecar.setup.plan_role import WantedRole, plan_role
from sidecar.setup.read_role import read_role
from sidecar.setup.resources import (
    DEFAULT_AUDIENCE,
    DEFAULT_SESSION_SECONDS,
    Account,
    IamRole,
    Resource,
    provider_arn,
)
from sidecar.setup.role_chain import parse_target
from sidecar.setup.steps.oidc_provider import check_audiences, read_provider
from sidecar.setup.subjects import service_account_of, subject_of_token, subjects_of
from sidecar.setup.token_check import check_token
from sidecar.setup.trust_policy import Change, TrustGrant
from sidecar.token import Token

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

EXAMPLE = """\
examples:
  irsa-sidecar setup role cart --cluster shop --service-account shop/cart \\
      --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess --dry-run
  irsa-sidecar setup role cart --token-file token --account-id 111122223333 --output json
  irsa-sidecar setup role cart --chain-to arn:aws:iam::444455556666:role/data \\
      --external-id agreed-with-them --chain-profile data
  irsa-sidecar setup role cart --cluster shop --service-account shop/cart \\
      --session-name 'shop.*' --source-vpce vpce-0123456789abcdef0"""

MAX_SESSION_SECONDS = 43_200
"""Maximum session duration that IAM accepts."""

_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_PATH = re.compile(r"/|/[\x21-\x7e]{1,510}/")
"""Patterns for a role's name and path (IAM API reference, CreateRole)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROLE", help="the role's name")
    parser.add_argument(
        "--service-account",
        metavar="NAMESPACE/NAME",
        action="append",
        help="a service account that may assume the role; can be repeated",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--replace", action="store_true", help="trust only the given service accounts of the issuer")
    change.add_argument("--remove", action="store_true", help="no longer trust the given service accounts")
    parser.add_argument(
        "--overwrite-edits", action="store_true", help="overwrite manual edits of the statement that this command wrote"
    )
    add_issuer_arguments(parser)
    parser.add_argument(
        "--audience", metavar="NAME", help=f"the tokens' audience [{DEFAULT_AUDIENCE}, or the audience of --token-file]"
    )
    parser.add_argument("--allow-wildcards", action="store_true", help="read * and ? in --service-account as wildcards")
    parser.add_argument(
        "--policy-arn", metavar="ARN", action="append", default=[], help="a managed policy to attach; can be repeated"
    )
    parser.add_argument(
        "--permissions-boundary", metavar="ARN", help="the policy that is the role's permissions boundary"
    )
    parser.add_argument(
        "--max-session-duration",
        metavar="SECONDS",
        type=int,
        help=f"the longest session of the role, {DEFAULT_SESSION_SECONDS} to {MAX_SESSION_SECONDS}",
    )
    parser.add_argument("--path", help="the path of a new role, such as /pods/")
    parser.add_argument(
        "--trust-policy-limit",
        metavar="CHARACTERS",
        type=int,
        default=DEFAULT_POLICY_CHARACTERS,
        help=f"your quota for the size of trust policies, if it was raised [{DEFAULT_POLICY_CHARACTERS}]",
    )
    add_condition_arguments(parser)
    add_chain_arguments(parser)
    add_aws_arguments(parser, "role")


def main(args: argparse.Namespace) -> int:
    _check_shape(args)
    check_outcome_arguments(args)
    check_chain_arguments(args)
    check_condition_arguments(args)
    tags = read_tags(args.tag)
    with ExitStack() as stack:
        aws = stack.enter_context(open_aws(args))
        account = find_account(args, aws)
        wanted = _wanted(args, account, None if is_chain_only(args) else find_issuer(args, aws), tags)
        current = None if is_offline(args) else _read_current(args, aws, wanted)
        if args.chain_to is None:
            plan = plan_role(current, wanted, account)
            return apply_plan(plan, args, aws, _next_commands(plan.planned, wanted))
        source_arn = current.arn if current else account.arn(f"role{wanted.path or '/'}{wanted.name}")
        chain = read_chain(args, source_arn, account)
        plan = plan_role(current, replace(wanted, chain=chain), account)
        other = find_other_side(args, chain, account, aws, stack)
        return apply_chain(Side(plan, aws), other, chain, args)


def _read_current(args: argparse.Namespace, aws: "Aws", wanted: WantedRole) -> IamRole | None:
    if wanted.grant is not None:
        check_provider(aws, wanted.grant)
    inline = [parse_target("--chain-to", args.chain_to).policy_name] if args.chain_to else []
    return read_role(aws, args.name, with_policies=bool(wanted.policy_arns), inline=inline)


def _next_commands(role: Resource, wanted: WantedRole) -> tuple[str, ...]:
    """Return a command to annotate each named service account with the role, or none if no service account is added."""
    if wanted.change is Change.REMOVE or wanted.grant is None or not isinstance(role, IamRole):
        return ()
    named = [service_account_of(subject) for subject in wanted.grant.subjects]
    audience = None if wanted.grant.audience == DEFAULT_AUDIENCE else wanted.grant.audience
    return tuple(
        command(
            *("irsa-sidecar", "setup", "service-account"),
            **{"namespace": namespace, "name": name, "role-arn": role.arn, "audience": audience},
        )
        for namespace, name in filter(None, named)
    )


def check_provider(aws: "Aws", grant: TrustGrant) -> None:
    """
    Warn if nobody can assume the role because of the account's provider, or if the permission to read it is missing.

    Raises AwsError if the provider cannot be read for another reason.
    """
    try:
        provider = read_provider(aws, grant.provider_arn, grant.issuer)
    except AwsError as exc:
        if not exc.code.startswith("AccessDenied"):
            raise
        warn(f"The provider of {grant.issuer} could not be checked: {exc}")
        return
    if provider is None:
        warn(
            f"The account has no OIDC provider of {grant.issuer} yet. Without the provider, IAM may reject the trust "
            "policy, and no Pod can assume the role. Create the provider with `irsa-sidecar setup oidc-provider`."
        )
    elif grant.audience not in provider.audiences:
        warn(
            f"{provider.title} accepts the audiences {', '.join(provider.audiences) or 'none'}: add the role's "
            f"audience with `irsa-sidecar setup oidc-provider --audience {grant.audience}`."
        )


def _wanted(args: argparse.Namespace, account: Account, issuer: Issuer | None, tags: dict[str, str]) -> WantedRole:
    """
    Return the settings in the flags. Without an issuer, the trust policy is not changed.

    Raises SidecarError if a flag is invalid.
    """
    for arn in args.policy_arn:
        account.check_policy_arn("--policy-arn", arn)
    if args.permissions_boundary:
        account.check_policy_arn("--permissions-boundary", args.permissions_boundary)
    return WantedRole(
        args.name,
        None if issuer is None else _grant(args, issuer, account),
        args.path,
        args.max_session_duration,
        args.permissions_boundary,
        tuple(dict.fromkeys(args.policy_arn)),
        tags,
        args.trust_policy_limit,
        Change.REPLACE if args.replace else Change.REMOVE if args.remove else Change.ADD,
        args.overwrite_edits,
    )


def _grant(args: argparse.Namespace, issuer: Issuer, account: Account) -> TrustGrant:
    """
    Return the grant. The token in --token-file provides values for missing flags.

    Raises SidecarError if the token is invalid.
    """
    check_issuer(issuer.url)
    audience, subjects = _audience(args, issuer.token), _subjects(args, issuer)
    if issuer.token is not None:
        check_token(issuer.token, args.token_file, os.environ)
    return TrustGrant(provider_arn(account, issuer.url), issuer.url, audience, subjects, find_conditions(args))


def _audience(args: argparse.Namespace, token: Token | None) -> str:
    audience = DEFAULT_AUDIENCE if args.audience is None else args.audience
    if token is not None and args.audience is None:
        if token.audience is None:
            raise ConfigurationError(
                f"--token-file is {args.token_file!r}: {token.audience_problem}",
                fix="Set --audience",
                setting="--token-file",
            )
        audience = token.audience
    check_audiences((audience,))
    return str(audience)


def _subjects(args: argparse.Namespace, issuer: Issuer) -> tuple[str, ...]:
    token = issuer.token
    allow_wildcards = args.allow_wildcards or args.remove
    subjects = subjects_of(args.service_account or [], allow_wildcards=allow_wildcards)
    if subjects:
        return subjects
    if token is None or not token.subject:
        raise ConfigurationError(
            "--service-account is not set",
            fix="Set it to the service account that may assume the role, such as NAMESPACE/NAME",
            setting="--service-account",
        )
    is_kubernetes = issuer.eks_region is not None or token.namespace is not None
    subject = subject_of_token(
        token.subject, args.token_file, is_kubernetes=is_kubernetes, allow_wildcards=allow_wildcards
    )
    return (subject,)


def _check_shape(args: argparse.Namespace) -> None:
    """Raise ConfigurationError for a value that IAM rejects in every account."""
    seconds, limit = args.max_session_duration, args.trust_policy_limit
    wrong = {
        f"ROLE is {args.name!r}: use 1 to 64 letters, digits and _+=,.@- as its name, without path or ARN.": (
            not _NAME.fullmatch(args.name)
        ),
        f"--path is {args.path!r}: begin and end it with a slash, such as /pods/.": (
            args.path is not None and not _PATH.fullmatch(args.path)
        ),
        f"--max-session-duration is {seconds}: use {DEFAULT_SESSION_SECONDS} to {MAX_SESSION_SECONDS} seconds.": (
            seconds is not None and not DEFAULT_SESSION_SECONDS <= seconds <= MAX_SESSION_SECONDS
        ),
        f"--trust-policy-limit is {limit}: use {DEFAULT_POLICY_CHARACTERS} to {MAX_POLICY_CHARACTERS}.": (
            not DEFAULT_POLICY_CHARACTERS <= limit <= MAX_POLICY_CHARACTERS
        ),
    }
    for text, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigurationError(text)
