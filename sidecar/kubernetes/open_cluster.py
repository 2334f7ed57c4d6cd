"""
Open the cluster that the user names, and import the packages for it.

lightkube and httpx2 use 40 MiB and are part of an extra. Therefore they are imported only when a command needs a
cluster.
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
    """
    Return the context's cluster.

    Raises ConfigurationError if the kubeconfig or the context is unusable, or if a package is missing.
    """
    config = import_extra("sidecar.kubernetes.kubeconfig", command, "setup").find_cluster(environ, context)
    opened: AbstractContextManager[Kubernetes] = import_extra(
        "sidecar.kubernetes.client", command, "setup"
    ).open_cluster(config)
    return opened
