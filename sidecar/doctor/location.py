"""
Determine from the environment in which container doctor runs, because that decides the checks. Pure.

Rule: the URL of the credentials endpoint identifies the application's container, even if other settings exist. doctor
then reports the settings that an SDK may use instead of the endpoint. Without that URL, a token file, a role or a roles
file identifies the sidecar's container. Without these, a metadata service on loopback identifies an application with an
older SDK.
"""

from collections.abc import Mapping
from enum import Enum

from sidecar.doctor.checks.environment import uses_imds_form

_ADDRESSES = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_SIDECAR_SETTINGS = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "IRSA_SIDECAR_CONFIG")


class Side(Enum):
    """The part of the set-up that doctor examines."""

    SIDECAR = "sidecar"
    APPLICATION = "application"
    NEITHER = "neither"
    POD = "pod"
    """A Pod that doctor examines from outside, through the API server."""


def side(environ: Mapping[str, str]) -> Side:
    """Return the side that this environment belongs to."""
    if any(environ.get(name) for name in _ADDRESSES):
        return Side.APPLICATION
    if any(environ.get(name) for name in _SIDECAR_SETTINGS):
        return Side.SIDECAR
    return Side.APPLICATION if uses_imds_form(environ) else Side.NEITHER


def is_in_pod(environ: Mapping[str, str]) -> bool:
    """
    Return whether Kubernetes started this process.

    Kubernetes sets KUBERNETES_SERVICE_HOST even if the Pod's enableServiceLinks is false.
    """
    return bool(environ.get("KUBERNETES_SERVICE_HOST"))
