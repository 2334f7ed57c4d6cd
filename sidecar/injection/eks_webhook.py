"""
Remove the additions of Amazon's EKS Pod identity webhook from containers, but no part that a user wrote. Pure.

Every SDK except one prefers a web identity to the container endpoint. So a container with Amazon's additions would
never call the sidecar, and would hold a token that it should not have. The additions are recognised by their volume:
`aws-iam-token`, and `eks-pod-identity-token` for EKS Pod Identity. No setting of that webhook changes these names. A
variable that names a file in a mount of that volume is Amazon's, and so is the second variable of its kind. Any other
variable is the user's.

Amazon's annotation `skip-containers` prevents that webhook from adding them again, because it excludes a container
completely. With the alternative, an empty AWS_ROLE_ARN, that webhook still mounts the token, and some SDKs fail because
the web identity is incomplete.
"""

from bisect import bisect
from collections.abc import Iterable

from sidecar.injection.names import EKS_PREFIX
from sidecar.kubernetes.document import Document

SKIP_CONTAINERS = f"{EKS_PREFIX}skip-containers"

POD_IDENTITY_LABEL, ENABLED = f"{EKS_PREFIX}pod-identity", "enabled"
"""The label that Amazon's webhook sets on each Pod of an EKS Pod Identity association since March 2026 (its PR 295)."""

WEB_IDENTITY = ("aws-iam-token", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
POD_IDENTITY = (
    "eks-pod-identity-token",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""The additions of each kind: a volume, a variable that names a file in the volume, and a second variable."""


def strip_eks_webhook(container: Document) -> Document:
    """Return the container without the additions of Amazon's webhook, or the same object if it has none."""
    for volume, file_variable, other in (WEB_IDENTITY, POD_IDENTITY):
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
    """Return the Pod's volumes without those of Amazon's webhook that no container mounts."""
    unused = {WEB_IDENTITY[0], POD_IDENTITY[0]} - _mounted(containers)
    return [volume for volume in volumes if volume["name"] not in unused]


def without_unused_label(labels: Document, before: Document, containers: Iterable[Document]) -> Document:
    """
    Return the Pod's labels without the one of EKS Pod Identity, if Amazon's webhook set it and no container uses it.

    `before` is the Pod's spec before injection. Amazon's webhook sets the label together with the volume. If the label
    exists without the volume, a user set it, and a selector may need it.
    """
    volume = POD_IDENTITY[0]
    is_from_webhook = labels.get(POD_IDENTITY_LABEL) == ENABLED and _mentions(before, volume)
    if not is_from_webhook or volume in _mounted(containers):
        return labels
    return {name: value for name, value in labels.items() if name != POD_IDENTITY_LABEL}


def _mentions(spec: Document, volume: str) -> bool:
    """Return whether the Pod has the volume, or has a container that mounts the volume."""
    containers = [each for key in ("initContainers", "containers") for each in spec.get(key) or ()]
    return volume in _mounted(containers) or any(each["name"] == volume for each in spec.get("volumes") or ())


def _mounted(containers: Iterable[Document]) -> set[str]:
    return {mount["name"] for container in containers for mount in container.get("volumeMounts") or ()}


def skipping(annotation: str | None, names: Iterable[str]) -> str:
    """Return the annotation's value with these names added, without spaces, because Amazon's webhook keeps spaces."""
    existing = annotation.split(",") if annotation else []
    known = set(existing)
    return ",".join([*existing, *(name for name in names if name not in known)])


def _is_any_in(directories: Iterable[str], files: Iterable[str]) -> bool:
    """
    Return whether a file is below one of the directories.

    If directories are nested, only the outermost one counts. In alphabetical order, the outermost directory is the
    nearest one before the file. So the time does not grow with the number of files times the number of directories.
    """
    outermost: list[str] = []
    for directory in sorted(f"{each}/" for each in directories):
        if not (outermost and directory.startswith(outermost[-1])):
            outermost.append(directory)
    return any(file.startswith(tuple(outermost[at - 1 : at])) for file in files if (at := bisect(outermost, file)))
