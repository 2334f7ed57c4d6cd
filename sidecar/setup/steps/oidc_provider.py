"""
Create the IAM OIDC provider of a cluster, so that an AWS account accepts the cluster's tokens.

The command checks the issuer as STS would. Then it creates the issuer's provider, or adds missing settings to an
existing provider. The issuer comes from --cluster, --issuer or --token-file, or from the kubeconfig's cluster. Run the
command once for each cluster and account.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from sidecar.console import warn
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.setup.aws_error import AwsError
from sidecar.setup.aws_steps import (
    add_aws_arguments,
    apply_plan,
    check_issuer,
    find_account,
    is_offline,
    open_aws,
    read_tags,
    report_concerns,
    tags_of,
)
from sidecar.setup.issuer_checks import discovery_concerns, key_concerns
from sidecar.setup.issuer_choice import Issuer, add_issuer_arguments, find_issuer, hidden_by_endpoint
from sidecar.setup.issuer_fetch import Published, UnreachableError, fetch_issuer
from sidecar.setup.outcome import check_outcome_arguments, command, issuer_flags
from sidecar.setup.plan_oidc_provider import plan_provider
from sidecar.setup.resources import DEFAULT_AUDIENCE, OidcProvider, provider_arn
from sidecar.setup.subjects import has_variable

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

EXAMPLE = """\
examples:
  irsa-sidecar setup oidc-provider --cluster shop --region eu-west-1 --dry-run
  irsa-sidecar setup oidc-provider --issuer https://oidc.example.com --ca-file ca.pem
  irsa-sidecar setup oidc-provider --cluster shop --output terraform"""

_MAX_AUDIENCE_CHARACTERS = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_issuer_arguments(parser)
    parser.add_argument(
        "--audience",
        metavar="NAME",
        action="append",
        help=f"an audience of the tokens; can be repeated [{DEFAULT_AUDIENCE}, in every partition]",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", type=Path, help="the private authority of the issuer's certificate"
    )
    parser.add_argument(
        "--skip-checks", action="store_true", help="do not check the documents that the issuer publishes"
    )
    add_aws_arguments(parser, "oidc-provider")


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    audiences = tuple(dict.fromkeys(args.audience or [DEFAULT_AUDIENCE]))
    check_audiences(audiences)
    tags = read_tags(args.tag)
    with open_aws(args) as aws:
        account = find_account(args, aws)
        issuer = find_issuer(args, aws)
        check_issuer(issuer.url)
        published = None if args.skip_checks else fetch_published(issuer, args.ca_file)
        thumbprints = (published.thumbprint,) if published and published.thumbprint else ()
        wanted = OidcProvider(provider_arn(account, issuer.url), issuer.url, audiences, thumbprints, tags)
        current = None if is_offline(args) else read_provider(aws, wanted.arn, issuer.url)
        return apply_plan(plan_provider(current, wanted), args, aws, _next_commands(args, wanted))


def _next_commands(args: argparse.Namespace, provider: OidcProvider) -> tuple[str, ...]:
    """Return the command that creates a role for a service account in the provider's cluster."""
    audience = None if DEFAULT_AUDIENCE in provider.audiences else provider.audiences[0]
    flags = issuer_flags(args, provider.issuer)
    return (
        command("irsa-sidecar", "setup", "role", "ROLE", **flags, service_account="NAMESPACE/NAME", audience=audience),
    )


def fetch_published(issuer: Issuer, ca_file: Path | None) -> Published | None:
    """
    Return the issuer's published documents, after checking them.

    Returns None if this machine cannot reach the documents but the cluster confirms its issuer.

    Raises SidecarError if STS cannot use the documents.
    """
    try:
        published = trio.run(fetch_issuer, issuer.url, ca_file)
    except UnreachableError as exc:
        _check_reachable(issuer, exc.problem)
        return None
    report_concerns(discovery_concerns(published.discovery, issuer.url))
    report_concerns(key_concerns(published.keys, issuer.url))
    # EKS uses certificates of public authorities, so a thumbprint would be that of a proxy in this network.
    return published._replace(thumbprint=None) if issuer.eks_region else published


def read_provider(aws: "Aws", arn: str, issuer: str) -> OidcProvider | None:
    """
    Return the account's current provider, or None if there is none.

    Raises SidecarError if AWS rejects the call.
    """
    try:
        response = aws.call("iam", "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
    except AwsError as exc:
        if exc.code == "NoSuchEntity":
            return None
        raise
    return OidcProvider(
        arn,
        issuer,
        tuple(response.get("ClientIDList", ())),
        tuple(response.get("ThumbprintList", ())),
        tags_of(response),
    )


def check_audiences(audiences: tuple[str, ...]) -> None:
    """Raise ConfigurationError if an audience is unusable. Warn if an audience looks like a host name of STS."""
    for audience in audiences:
        if has_variable(audience) or not audience.isprintable():
            raise ConfigurationError(
                f"--audience is {audience!r}: IAM reads ${{…}} as a policy variable, and a name must be printable",
                fix=f"Write the full name, such as {DEFAULT_AUDIENCE}",
                setting="--audience",
            )
        if not 0 < len(audience) <= _MAX_AUDIENCE_CHARACTERS:
            raise ConfigurationError(
                f"--audience is {audience!r}, which has {len(audience)} characters",
                fix=f"Use 1 to {_MAX_AUDIENCE_CHARACTERS} characters, such as {DEFAULT_AUDIENCE}",
                setting="--audience",
            )
        if audience.startswith("sts.") and audience != DEFAULT_AUDIENCE:
            warn(
                f"--audience is {audience}: the tokens of EKS have {DEFAULT_AUDIENCE} in every region and partition, "
                "because an audience is not an address. Keep yours only if your Pods' tokens have it."
            )


def _check_reachable(issuer: Issuer, problem: str) -> None:
    """Warn that EKS's issuer is not reachable, if the cluster confirms the issuer. Otherwise raise SidecarError."""
    if issuer.eks_region is None:
        raise SidecarError(
            problem,
            fix="Publish the issuer's documents on the internet, because STS fetches its keys from there. If only this "
            "machine has no access to them, use --skip-checks",
        )
    reason = hidden_by_endpoint(issuer, problem)
    if not issuer.is_certain:
        raise SidecarError(
            reason,
            fix="Use --cluster NAME, so that EKS confirms the issuer, or --skip-checks, or run this outside the VPC",
        )
    warn(f"{reason}. The step continues, because the cluster confirms its issuer.")
