"""Define the type of a Kubernetes object, and the error for a document that is not one. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sidecar.errors import KubernetesError

Document = dict[str, Any]
"""A Kubernetes object, or a part of one, as parsed JSON."""

CHECK_PROXIES = "Check HTTPS_PROXY and the server of the kubeconfig: a proxy may respond instead of the API server"
"""Next step if a response is not from an API server."""


@contextmanager
def reading_objects(path: str) -> Iterator[None]:
    """Raise KubernetesError if a document is not in the form of a Kubernetes object."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as exc:
        raise KubernetesError(
            f"The API server's response to {path} is not a Kubernetes object", fix=CHECK_PROXIES
        ) from exc
