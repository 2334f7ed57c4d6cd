"""
Have an AWS account take the tokens of a cluster: its IAM OIDC provider.

Creates the provider of the cluster's issuer, or adds to the one there what it lacks, and checks first what STS will
check. The issuer is that of --cluster, --issuer or --token-file, else of the kubeconfig's cluster. Run it once for each
cluster and account.
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
        help=f"of the tokens that are taken; may be repeated [{DEFAULT_AUDIENCE}, in every partition]",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", type=Path, help="the authority of an issuer that uses a private one"
    )
    parser.add_argument("--skip-checks", action="store_true", help="do not look at what the issuer publishes")
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
        published = None if args.skip_checks else look(issuer, args.ca_file)
        thumbprints = (published.thumbprint,) if published and published.thumbprint else ()
        wanted = OidcProvider(provider_arn(account, issuer.url), issuer.url, audiences, thumbprints, tags)
        current = None if is_offline(args) else read_provider(aws, wanted.arn, issuer.url)
        return apply_plan(plan_provider(current, wanted), args, aws, _next_commands(args, wanted))


def _next_commands(args: argparse.Namespace, provider: OidcProvider) -> tuple[str, ...]:
    """Return the command that lets a service account assume a role by this provider."""
    audience = None if DEFAULT_AUDIENCE in provider.audiences else provider.audiences[0]
    flags = issuer_flags(args, provider.issuer)
    return (
        command("irsa-sidecar", "setup", "role", "ROLE", **flags, service_account="NAMESPACE/NAME", audience=audience),
    )


def look(issuer: Issuer, ca_file: Path | None) -> Published | None:
    """What the issuer publishes, once it is such that STS can use it. Raises SidecarError."""
    try:
        published = trio.run(fetch_issuer, issuer.url, ca_file)
    except UnreachableError as exc:
        _explain(issuer, str(exc))
        return None
    report_concerns(discovery_concerns(published.discovery, issuer.url))
    report_concerns(key_concerns(published.keys, issuer.url))
    # EKS's certificates are public: what else was seen is a proxy's of this network.
    return published._replace(thumbprint=None) if issuer.eks_region else published


def read_provider(aws: "Aws", arn: str, issuer: str) -> OidcProvider | None:
    """The account's provider as it is; None while there is none. Raises SidecarError."""
    try:
        answer = aws.call("iam", "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
    except AwsError as exc:
        if exc.code == "NoSuchEntity":
            return None
        raise
    return OidcProvider(
        arn,
        issuer,
        tuple(answer.get("ClientIDList", ())),
        tuple(answer.get("ThumbprintList", ())),
        tags_of(answer),
    )


def check_audiences(audiences: tuple[str, ...]) -> None:
    """Raise ConfigurationError for an unusable audience. Remark on one that is an address of STS."""
    for audience in audiences:
        if has_variable(audience) or not audience.isprintable():
            raise ConfigurationError(
                f"--audience is {audience!r}: IAM reads ${{…}} as a policy variable, and a name has printable "
                f"characters only. Give the name in full, such as {DEFAULT_AUDIENCE}."
            )
        if not 0 < len(audience) <= _MAX_AUDIENCE_CHARACTERS:
            raise ConfigurationError(
                f"--audience is {audience!r}: give 1 to {_MAX_AUDIENCE_CHARACTERS} characters, as {DEFAULT_AUDIENCE}."
            )
        if audience.startswith("sts.") and audience != DEFAULT_AUDIENCE:
            warn(
                f"--audience is {audience}: the tokens of EKS have {DEFAULT_AUDIENCE} in every region and partition, "
                "since it is no address; keep yours if your Pods' tokens really have it."
            )


def _explain(issuer: Issuer, said: str) -> None:
    """Goes on where the cluster vouches for an issuer of EKS's. Raises SidecarError elsewhere."""
    if issuer.eks_region is None:
        raise SidecarError(
            f"{said}: STS fetches keys from the internet, so have the issuer answer there; if it does and only this "
            "machine is cut off, say --skip-checks."
        )
    reason = hidden_by_endpoint(issuer, said)
    if not issuer.is_certain:
        raise SidecarError(
            f"{reason}: say --cluster NAME, so that EKS vouches for the issuer, or --skip-checks, or run this outside "
            "the VPC."
        )
    warn(f"{reason}. The cluster vouches for its issuer, so this goes on.")
