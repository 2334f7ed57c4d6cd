"""Define the patterns for Kubernetes names (Object Names and IDs)."""

import re
from typing import Any

from sidecar.errors import KubernetesError
from sidecar.kubernetes.document import CHECK_PROXIES

NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""Pattern for a namespace's name: an RFC 1123 label."""

NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""Pattern for most other names, such as a ServiceAccount's: an RFC 1123 subdomain."""


def is_name(value: Any, pattern: str = NAME) -> bool:
    """Return whether the value from a document is a name of this pattern."""
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def path_segment(name: Any) -> str:
    """
    Return the name, which is then safe in a path of the API server.

    Raises KubernetesError for any other value, because `..` and an encoded slash would change the path.
    """
    if not is_name(name) or ".." in name:
        raise KubernetesError(f"{str(name)[:100]!r} is not the name of a Kubernetes object", fix=CHECK_PROXIES)
    return str(name)
