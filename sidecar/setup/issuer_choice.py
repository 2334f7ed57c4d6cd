"""
Find the issuer that the flags select.

The issuer is the URL in --issuer, or the issuer of the token in --token-file, of the EKS cluster in --cluster, or of
the kubeconfig's cluster.
"""

import argparse
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.errors import ConfigurationError, KubernetesError, SidecarError
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.role import parse_token_file
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.sts.endpoint import PARTITIONS
from sidecar.token import Token, read_token

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.setup.aws import Aws

_EKS_HOSTS = [
    re.compile(rf"{prefix}\.({partition.region})\.{re.escape(suffix)}")
    for partition in PARTITIONS
    for prefix, suffix in (("oidc\\.eks", partition.suffix), ("oidc-eks", partition.dual_stack_suffix))
    if suffix
]
"""Patterns for the hosts that publish the documents of EKS clusters. Each region has an IPv4 and a dual-stack name."""


class Issuer(NamedTuple):
    """An issuer. `is_certain` is true if EKS or the cluster itself named it. `token` is the token in --token-file."""

    url: str
    is_certain: bool = False
    token: Token | None = None

    @property
    def eks_region(self) -> str | None:
        """Return the region in which EKS publishes the documents, or None for an issuer outside EKS."""
        host = urlsplit(self.url).hostname or ""
        matches = (pattern.fullmatch(host) for pattern in _EKS_HOSTS)
        return next((match[1] for match in matches if match), None)


def add_issuer_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cluster", metavar="NAME", help="the EKS cluster whose issuer to use")
    which.add_argument("--issuer", metavar="URL", help="the issuer's URL, exactly as in the claim iss of its tokens")
    which.add_argument("--token-file", metavar="FILE", help="a service account token; its claim iss is the issuer")
    parser.add_argument(
        "--context",
        metavar="NAME",
        help="without --cluster, --issuer and --token-file: the kubeconfig context to use [the current context]",
    )


def find_issuer(args: argparse.Namespace, aws: "Aws") -> Issuer:
    """
    Return the issuer.

    Raises SidecarError if the issuer cannot be found.
    """
    if args.issuer:
        return Issuer(args.issuer)
    if args.token_file:
        token = read_token(parse_token_file("--token-file", args.token_file))
        if not token.issuer:
            raise ConfigurationError(
                f"--token-file is {args.token_file!r}: the token has no claim iss",
                fix="Use another token file",
                setting="--token-file",
            )
        return Issuer(token.issuer, token=token)
    if args.cluster:
        return Issuer(issuer_of_eks(aws.call("eks", "DescribeCluster", name=args.cluster)["cluster"]), is_certain=True)
    return Issuer(issuer_of_kubernetes(args.context), is_certain=True)


def issuer_of_eks(cluster: Mapping[str, Any]) -> str:
    """
    Return the issuer in EKS's description of a cluster (API reference, Cluster).

    Raises SidecarError if EKS shows none.
    """
    name = cluster.get("name")
    if cluster.get("outpostConfig"):
        raise SidecarError(
            f"The cluster {name} is a local cluster on an Outpost. EKS publishes no keys for its tokens, so its "
            "service accounts cannot assume IAM roles",
            fix=(
                "Publish its issuer yourself (`irsa-sidecar setup issuer-documents`), or run the Pod in a cluster of "
                "the region"
            ),
        )
    if cluster.get("connectorConfig"):
        raise SidecarError(
            f"The cluster {name} is only shown in EKS and hosted elsewhere",
            fix="Set --issuer to the issuer of that cluster",
        )
    issuer = cluster.get("identity", {}).get("oidc", {}).get("issuer")
    if not issuer:
        raise SidecarError(
            f"The cluster {name} has no issuer yet (it is {cluster.get('status', 'unknown')})",
            fix="Wait until it is ACTIVE",
        )
    return str(issuer)


def issuer_of_kubernetes(context: str | None) -> str:
    """
    Return the issuer in the API server's discovery document.

    Raises SidecarError if there is none.
    """
    with open_named_cluster(os.environ, context, "irsa-sidecar setup") as cluster:
        return published_issuer(cluster)


def published_issuer(cluster: "Kubernetes") -> str:
    """
    Return the issuer in the API server's discovery document.

    Raises SidecarError if there is none.
    """
    body = cluster.get_raw(DISCOVERY_PATH)
    try:
        return str(json.loads(body or b"")["issuer"])
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise SidecarError(
            f"The API server of context {cluster.context or 'in use'} publishes no discovery document",
            fix="Set --issuer, or set --cluster to the EKS cluster",
        ) from exc


def check_same_cluster(args: argparse.Namespace, aws: "Aws", kubernetes: "Kubernetes") -> None:
    """
    Check that the flags select the issuer of this API server.

    If the API server denies its discovery document, the address of the EKS cluster must be that of the API server.

    Raises ConfigurationError if the flags select another cluster, and SidecarError if this is unknown.
    """
    if not (args.cluster or args.issuer or args.token_file):
        return
    described = aws.call("eks", "DescribeCluster", name=args.cluster)["cluster"] if args.cluster else {}
    expected = issuer_of_eks(described) if args.cluster else find_issuer(args, aws).url
    try:
        actual = published_issuer(kubernetes)
    except KubernetesError as exc:
        endpoint = described.get("endpoint", "").rstrip("/")
        if exc.status == _FORBIDDEN and endpoint == kubernetes.server.rstrip("/"):
            return
        raise
    if actual != expected:
        flag = "--cluster" if args.cluster else "--issuer" if args.issuer else "--token-file"
        raise ConfigurationError(
            f"{flag} selects the issuer {expected}, but the API server of context {kubernetes.context} has the issuer "
            f"{actual}",
            fix=f"Set --context to the context of that cluster, or correct {flag}",
            setting=flag,
        )


_FORBIDDEN = 403


def hidden_by_endpoint(issuer: Issuer, problem: str) -> str:
    """Return the probable reason why this machine cannot reach EKS's issuer, and the consequence."""
    return (
        f"{problem}, for example because an endpoint for EKS in this VPC (com.amazonaws.{issuer.eks_region}.eks, with "
        "private DNS) hides that name; AWS itself can reach the issuer, so only the checks from here are impossible"
    )
