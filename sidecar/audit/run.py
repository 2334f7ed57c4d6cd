"""
Run one audit: read the inventory and the known findings, and judge the inventory.

Rule: the audit changes nothing in the cluster or the account.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from sidecar.audit.accepted import FILE, Acceptance, read_acceptances, read_baseline
from sidecar.audit.collect_aws import read_account
from sidecar.audit.collect_kubernetes import read_cluster
from sidecar.audit.inventory import CALLER, Account, Cluster, Inventory, Problem
from sidecar.audit.judge import AuditReport, judge
from sidecar.audit.relations import Options
from sidecar.config_file import read_config_file
from sidecar.errors import SidecarError
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.named_file import read_named_file
from sidecar.setup.aws import Aws
from sidecar.setup.issuer_choice import Issuer
from sidecar.setup.issuer_fetch import UnreachableError, fetch_issuer

_EKS_CLUSTER = re.compile(r"arn:aws[a-z-]*:eks:[a-z0-9-]+:[0-9]{12}:cluster/(?P<name>[A-Za-z0-9_-]+)")
"""Pattern for the context that `aws eks update-kubeconfig` writes: the ARN of the cluster."""

MAX_BASELINE_BYTES = 256 * 1024 * 1024
"""Limit for the size of an earlier report. One finding has about 1 KiB."""

ISSUER_CERTIFICATE = "issuer certificate"
"""Name of the part of the inventory that is missing if the issuer's thumbprint is unknown."""

Progress = Callable[[str], None]


class Sources(NamedTuple):
    """The flags that name the cluster and the account. Empty flags have the default that the help shows."""

    context: str | None = None
    cluster_name: str = ""
    issuer: str = ""
    ca_file: str | None = None
    profile: str | None = None
    region: str | None = None


async def collect(sources: Sources, progress: Progress) -> Inventory:
    """
    Read the cluster, then the account.

    Raises ConfigurationError if there is no cluster in the kubeconfig.
    """
    now = time.time()
    with open_named_cluster(os.environ, sources.context, "irsa-sidecar audit") as kubernetes:
        name = sources.cluster_name or eks_cluster_name(kubernetes.context or "")
        cluster = await read_cluster(kubernetes, name, now, progress)
    cluster = await with_issuer(cluster, sources)
    account = await _read_account(cluster, sources, progress)
    progress("")
    return Inventory(cluster, account)


def eks_cluster_name(context: str) -> str:
    """Return the name of the EKS cluster in the context's name, or an empty text."""
    match = _EKS_CLUSTER.fullmatch(context)
    return match["name"] if match else ""


async def with_issuer(cluster: Cluster, sources: Sources) -> Cluster:
    """
    Return the cluster with the issuer of --issuer, if given, and with the thumbprint that the issuer needs.

    EKS uses certificates of public authorities, for which AWS ignores thumbprints. Without --ca-file, an issuer that
    this machine cannot reach is not reported, because AWS may reach it.
    """
    issuer = sources.issuer or cluster.issuer
    thumbprint, problems = "", cluster.problems
    if issuer.startswith("https://") and (sources.ca_file or Issuer(issuer).eks_region is None):
        ca_file = Path(sources.ca_file) if sources.ca_file else None
        try:
            thumbprint = (await fetch_issuer(issuer, ca_file)).thumbprint or ""
        except SidecarError as error:
            if ca_file or not isinstance(error, UnreachableError):
                problems = (*problems, Problem(ISSUER_CERTIFICATE, error.problem, error.fix))
    return msgspec.structs.replace(cluster, issuer=issuer, issuer_thumbprint=thumbprint, problems=problems)


async def _read_account(cluster: Cluster, sources: Sources, progress: Progress) -> Account:
    try:
        with Aws(sources.profile, sources.region) as aws:
            return await read_account(aws, cluster, progress)
    except SidecarError as error:
        return Account(problems=(Problem(CALLER, error.problem, error.fix),))


class Known(NamedTuple):
    """The findings that people know: the accepted findings, and the fingerprints in the baseline."""

    acceptances: tuple[Acceptance, ...] = ()
    baseline: frozenset[str] = frozenset()


def read_known(accepted_path: str | None, baseline_path: str | None) -> Known:
    """
    Read the files of accepted findings and of the baseline.

    Without `accepted_path`, the file FILE in the working directory is read if it exists.

    Raises ConfigurationError if a file cannot be read or is invalid.
    """
    path = accepted_path or (FILE if os.path.exists(FILE) else None)
    acceptances: tuple[Acceptance, ...] = ()
    if path is not None:
        text = read_config_file("--accepted", path, "Name a file of accepted findings")
        acceptances = read_acceptances(text, path)
    if baseline_path is None:
        return Known(acceptances)
    return Known(acceptances, _read_baseline(baseline_path))


def _read_baseline(path: str) -> frozenset[str]:
    fix = "Create it with `irsa-sidecar audit --output json`"
    return read_baseline(read_named_file("--baseline", path, limit=MAX_BASELINE_BYTES, fix=fix), path)


def audit(inventory: Inventory, options: Options, known: Known) -> AuditReport:
    """Return the report of an inventory."""
    return judge(inventory, inventory.cluster.read_at, options, known.acceptances, known.baseline)
