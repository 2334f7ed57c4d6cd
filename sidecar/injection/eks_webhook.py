"""
What Amazon's EKS Pod identity webhook puts into containers, told apart from what a user wrote, and taken away. Pure.

Every SDK but one takes a web identity before the container endpoint, so a container that keeps Amazon's would never
ask the sidecar, and would hold the token that it should not have. Amazon's is known by its volume, whose name no
setting of that webhook changes (`aws-iam-token`, and `eks-pod-identity-token` of EKS Pod Identity): a variable that
names a file in a mount of that volume is Amazon's, and any other is the user's own.

It is kept from coming back by Amazon's annotation `skip-containers`, which spares a container altogether. The other
way, an empty AWS_ROLE_ARN, still mounts the token, and some SDKs trip over half a web identity.
"""

from bisect import bisect
from collections.abc import Iterable

from sidecar.injection.names import EKS_PREFIX
from sidecar.kubernetes.document import Document

SKIP_CONTAINERS = f"{EKS_PREFIX}skip-containers"

POD_IDENTITY_LABEL, ENABLED = f"{EKS_PREFIX}pod-identity", "enabled"
"""The label that Amazon's webhook sets on each Pod of an EKS Pod Identity association since March 2026 (its PR 295)."""

_WEB_IDENTITY = ("aws-iam-token", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
_POD_IDENTITY = (
    "eks-pod-identity-token",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Volume, the variable that names a file in it, and the one that comes with that."""


def strip_eks_webhook(container: Document) -> Document:
    """The container without what Amazon's webhook put into it; itself where there is none."""
    for volume, file_variable, other in (_WEB_IDENTITY, _POD_IDENTITY):
        directories = [m["mountPath"].rstrip("/") for m in container.get("volumeMounts") or () if m["name"] == volume]
        if not directories:
            continue
        variables = container.get("env") or []
        files = [str(each.get("value", "")) for each in variables if each["name"] == file_variable]
        names = {file_variable, other} if _is_any_in(directories, files) else set()
        container = {
            **container,
            "env": [variable for variable in variables if variable["name"] not in names],
            "volumeMounts": [mount for mount in container["volumeMounts"] if mount["name"] != volume],
        }
        container = {key: value for key, value in container.items() if value or key not in {"env", "volumeMounts"}}
    return container


def without_unused_volumes(volumes: list[Document], containers: Iterable[Document]) -> list[Document]:
    """The Pod's volumes without those of Amazon's that no container mounts any more."""
    theirs = {_WEB_IDENTITY[0], _POD_IDENTITY[0]} - _mounted(containers)
    return [volume for volume in volumes if volume["name"] not in theirs]


def without_unused_label(labels: Document, before: Document, containers: Iterable[Document]) -> Document:
    """
    Return the Pod's labels without the one of EKS Pod Identity, if Amazon's webhook set it and no container uses it.

    `before` is the Pod's spec as it came. Amazon's webhook sets the label together with its volume. A label without the
    volume is the user's, and a selector may need it.
    """
    volume = _POD_IDENTITY[0]
    is_amazons = labels.get(POD_IDENTITY_LABEL) == ENABLED and _mentions(before, volume)
    if not is_amazons or volume in _mounted(containers):
        return labels
    return {name: value for name, value in labels.items() if name != POD_IDENTITY_LABEL}


def _mentions(spec: Document, volume: str) -> bool:
    """Return whether the Pod has the volume, or a container that mounts it."""
    containers = [each for key in ("initContainers", "containers") for each in spec.get(key) or ()]
    return volume in _mounted(containers) or any(each["name"] == volume for each in spec.get("volumes") or ())


def _mounted(containers: Iterable[Document]) -> set[str]:
    return {mount["name"] for container in containers for mount in container.get("volumeMounts") or ()}


def skipping(annotation: str | None, names: Iterable[str]) -> str:
    """The annotation's value with these names in it. Amazon's reading trims nothing, so no space is added."""
    there = annotation.split(",") if annotation else []
    known = set(there)
    return ",".join([*there, *(name for name in names if name not in known)])


def _is_any_in(directories: Iterable[str], files: Iterable[str]) -> bool:
    """
    Return whether a file is below one of the directories.

    Of directories inside each other only the outermost counts. It is the nearest one in front of the file in the order
    of the alphabet, so the time does not go with the product of both numbers.
    """
    outermost: list[str] = []
    for directory in sorted(f"{each}/" for each in directories):
        if not (outermost and directory.startswith(outermost[-1])):
            outermost.append(directory)
    return any(file.startswith(tuple(outermost[at - 1 : at])) for file in files if (at := bisect(outermost, file)))
