"""
Open the cluster that a person means, with the packages that only this needs.

lightkube and httpx2 take 40 MiB, and come with an extra: they are imported here, when a cluster is really asked.
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
    """Return the cluster of the context. Raises ConfigurationError if it, or a package, is not there."""
    config = import_extra("sidecar.kubernetes.kubeconfig", command, "setup").find_cluster(environ, context)
    opened: AbstractContextManager[Kubernetes] = import_extra(
        "sidecar.kubernetes.client", command, "setup"
    ).open_cluster(config)
    return opened
