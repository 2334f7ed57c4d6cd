"""
Where doctor runs, and so what there is to look at. Pure.

Rule: an address of the credentials endpoint makes it the application's side, whatever else is set there: what else is
set is just what its SDK would trip over. Otherwise a token or a file of roles makes it the sidecar's, and without these
the address of a metadata service on loopback makes it an older application's.
"""

from collections.abc import Mapping
from enum import Enum

from sidecar.doctor.checks.environment import is_own_form

_ADDRESSES = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_OF_THE_SIDECAR = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "IRSA_SIDECAR_CONFIG")


class Side(Enum):
    SIDECAR = "sidecar"
    APPLICATION = "application"
    NEITHER = "neither"
    POD = "pod"
    """From outside of it, by the cluster's API."""


def side(environ: Mapping[str, str]) -> Side:
    """Whose environment this is."""
    if any(environ.get(name) for name in _ADDRESSES):
        return Side.APPLICATION
    if any(environ.get(name) for name in _OF_THE_SIDECAR):
        return Side.SIDECAR
    return Side.APPLICATION if is_own_form(environ) else Side.NEITHER


def is_in_pod(environ: Mapping[str, str]) -> bool:
    """Kubernetes sets it in every container, whatever the Pod's enableServiceLinks."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST"))
