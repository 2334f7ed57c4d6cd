"""
Validate Kubernetes objects against the schemas of every minor version with native sidecars.

Rule: an object must be valid in each version that has its kind. There are no schemas of custom resources.
"""

from collections.abc import Mapping
from typing import Any

from kubernetes_validate import latest_version, validate

FIRST = 29
"""The first minor version with native sidecars by default."""

VERSIONS = tuple(f"1.{minor}" for minor in range(FIRST, int(latest_version().split(".")[1]) + 1))

FIRST_OF_KIND = {
    "MutatingAdmissionPolicy": 36,
    "MutatingAdmissionPolicyBinding": 36,
    "ValidatingAdmissionPolicy": 30,
    "ValidatingAdmissionPolicyBinding": 30,
}
"""The first minor version that has `v1` of a kind, if it is later than FIRST."""


def is_builtin(document: Mapping[str, Any]) -> bool:
    """Return whether the document is an object of a built-in kind, for which there is a schema."""
    group, _, _ = document.get("apiVersion", "./").rpartition("/")
    return ("." not in group or group.endswith(".k8s.io")) and document["kind"] not in ("Kustomization", "Component")


def versions_of(kind: str) -> tuple[str, ...]:
    """Return the versions that have the kind."""
    return tuple(version for version in VERSIONS if int(version[2:]) >= FIRST_OF_KIND.get(kind, FIRST))


def check(document: Mapping[str, Any], version: str) -> None:
    """
    Validate the object against the schema of that version. An unknown field is an error.

    Raises an error of kubernetes_validate if the object is invalid or if the version lacks its kind.
    """
    validate(dict(document), version, strict=True)
