"""
Whose tokens are meant: the issuer of an EKS cluster, one that is named, that of a token, or that of the kubeconfig's
cluster.
"""

import argparse
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.errors import ConfigurationError, SidecarError
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.sts.endpoint import PARTITIONS
from sidecar.token import Token, read_token

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

_EKS_HOSTS = [
    re.compile(rf"{prefix}\.({partition.region.pattern})\.{re.escape(suffix)}")
    for partition in PARTITIONS
    for prefix, suffix in (("oidc\\.eks", partition.suffix), ("oidc-eks", partition.dual_stack_suffix))
    if suffix
]
"""Where EKS publishes its clusters' documents: each region has a name for IPv4, and one for both."""


class Issuer(NamedTuple):
    """`is_certain`: EKS or the cluster itself said so. `token` is the one that was shown."""

    url: str
    is_certain: bool = False
    token: Token | None = None

    @property
    def eks_region(self) -> str | None:
        """The region whose EKS publishes its documents; None for an issuer elsewhere."""
        host = urlsplit(self.url).hostname or ""
        matches = (pattern.fullmatch(host) for pattern in _EKS_HOSTS)
        return next((match[1] for match in matches if match), None)


def add_issuer_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cluster", metavar="NAME", help="the EKS cluster whose issuer is meant")
    which.add_argument("--issuer", metavar="URL", help="the issuer itself, as it stands in tokens as iss")
    which.add_argument("--token-file", metavar="FILE", help="a service account token, for what it says")
    parser.add_argument("--context", metavar="NAME", help="else the cluster of this kubeconfig context [current]")


def find_issuer(args: argparse.Namespace, aws: "Aws") -> Issuer:
    """Raises SidecarError with what to say instead."""
    if args.issuer:
        return Issuer(args.issuer)
    if args.token_file:
        token = read_token(args.token_file)
        if not token.issuer:
            raise ConfigurationError(f"--token-file is {args.token_file!r}, a token without iss: name another.")
        return Issuer(token.issuer, token=token)
    if args.cluster:
        answer = aws.call("eks", "DescribeCluster", name=args.cluster)
        return Issuer(issuer_of_eks(answer["cluster"]), is_certain=True)
    return Issuer(issuer_of_kubernetes(args.context), is_certain=True)


def issuer_of_eks(cluster: Mapping[str, Any]) -> str:
    """From EKS's description of a cluster (API reference, Cluster). Raises SidecarError for one without an issuer."""
    name = cluster.get("name")
    if cluster.get("outpostConfig"):
        raise SidecarError(
            f"The cluster {name} is a local cluster on an Outpost, whose tokens EKS publishes no keys for, so AWS has "
            "no IAM roles for its service accounts: publish its issuer yourself (`irsa-sidecar setup "
            "issuer-documents`), or run the Pod in a cluster of the region."
        )
    if cluster.get("connectorConfig"):
        raise SidecarError(
            f"The cluster {name} is only shown in EKS and hosted elsewhere: name its own issuer with --issuer."
        )
    issuer = cluster.get("identity", {}).get("oidc", {}).get("issuer")
    if not issuer:
        raise SidecarError(
            f"The cluster {name} has no issuer yet (it is {cluster.get('status', 'unknown')}): wait until it is ACTIVE."
        )
    return str(issuer)


def issuer_of_kubernetes(context: str | None) -> str:
    """From the API server's discovery document. Raises SidecarError."""
    with open_named_cluster(os.environ, context, "irsa-sidecar setup") as cluster:
        body = cluster.get_raw(DISCOVERY_PATH)
    try:
        return str(json.loads(body or b"")["issuer"])
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise SidecarError(
            f"The API server of context {context or 'in use'} publishes no discovery document: name the issuer with "
            "--issuer, or the EKS cluster with --cluster."
        ) from exc


def hidden_by_endpoint(issuer: Issuer, said: str) -> str:
    """Why EKS's issuer is out of reach from here, and what follows."""
    return (
        f"{said}, as within a VPC whose endpoint for EKS (com.amazonaws.{issuer.eks_region}.eks, with private DNS) "
        "takes over that name; AWS itself reaches it, so it could only not be looked at from here"
    )
