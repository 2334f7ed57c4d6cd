"""
Open the cluster that the user names, and import the packages that only this needs.

lightkube and httpx2 take 40 MiB, and come with an extra. So they are imported only when a command needs a cluster.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sidecar.extras import import_extra

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes


def open_named_cluster(
    environ: Mapping[str, str], context: str | None, command: str
) -> "AbstractContextManager[Kubernetes]":
    """Return the cluster of the context. Raises ConfigurationError if it does not exist, or if a package is missing."""
    config = import_extra("sidecar.kubernetes.kubeconfig", command, "setup").find_cluster(environ, context)
    opened: AbstractContextManager[Kubernetes] = import_extra(
        "sidecar.kubernetes.client", command, "setup"
    ).open_cluster(config)
    return opened
