"""
Add the sidecar to a Pod, or reject the Pod with a message. Pure.

Rules:

- Everything that a user wrote stays: the containers, their order and their variables. docs/injection.md lists what
  changes.
- A second injection changes nothing.
- After an annotation or setting changed, an injection has the same result as a first injection, except for the order
  and for variables such as AWS_REGION, which stay in containers without a role.
- Our parts of a Pod are recognised by their names. Additions of other programs to our parts stay.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sidecar.injection.app_container import secret_directory, with_credentials, without_ours
from sidecar.injection.assignment import assign_roles
from sidecar.injection.eks_webhook import (
    SKIP_CONTAINERS,
    skipping,
    strip_eks_webhook,
    without_unused_label,
    without_unused_volumes,
)
from sidecar.injection.known_names import check_names
from sidecar.injection.merge import strategic_merge
from sidecar.injection.names import (
    AUTHORIZATION_VOLUME,
    CONTAINER,
    OUR_VARIABLES,
    REJECTION,
    STATE_VOLUME,
    TOKEN_VOLUME,
)
from sidecar.injection.options import InjectionOptions, RoleAssignment, read_options
from sidecar.injection.resources import resources_in
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.injection.sidecar_container import GRACE_SECONDS, POST_START, sidecar_container, volumes
from sidecar.injection.validation import (
    CONTAINER_LISTS,
    check_container,
    check_label,
    check_pod,
    check_shape,
    check_sidecar,
)
from sidecar.injection.warning import warnings_about, warnings_about_service_account
from sidecar.kubernetes.document import Document

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Injected(NamedTuple):
    """The Pod with its sidecar, and warnings for its author."""

    pod: Document
    warnings: tuple[str, ...]


def inject(pod: Document, service_account: ServiceAccount | None, settings: Settings) -> Injected:
    """
    Add a sidecar for the role that the Pod's annotations name, or else the annotations of its ServiceAccount.

    The argument `pod` is not changed.

    Raises ConfigurationError if the Pod cannot get a sidecar. The error's text is the rejection.
    """
    check_shape(pod)
    check_label(pod)
    check_names(pod.get("metadata") or {})
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    annotations = metadata.get("annotations") or {}
    options = read_options(annotations, service_account, settings)
    check_pod(annotations, spec, settings)
    application = {key: [c for c in spec.get(key) or () if c["name"] != CONTAINER] for key in CONTAINER_LISTS}
    by_name = {container["name"]: container for containers in application.values() for container in containers}
    early = () if settings.is_native else [container["name"] for container in application["initContainers"]]
    roles, warnings = assign_roles(by_name, options, early)
    new_spec = _spec(spec, application, roles, options, settings)
    new_annotations = _annotations(annotations, roles, settings, first=application["containers"][0]["name"])
    new_metadata = {**metadata, **_labels(metadata, spec, new_spec), "annotations": new_annotations}
    beside = [container for name, container in by_name.items() if name not in early]
    warnings += tuple(warnings_about(spec, options, roles.values(), [by_name[name] for name in roles], beside))
    warnings += tuple(warnings_about_service_account(service_account))
    return Injected({**pod, "metadata": new_metadata, "spec": new_spec}, warnings)


def _spec(
    spec: Document,
    application: Mapping[str, list[Document]],
    roles: Mapping[str, RoleAssignment],
    options: InjectionOptions,
    settings: Settings,
) -> Document:
    """Return the Pod's spec with the sidecar and with the changed containers of the application."""
    lists = {
        key: [_container(container, roles.get(container["name"]), options, settings) for container in containers]
        for key, containers in application.items()
    }
    others = [container for containers in application.values() for container in containers]
    lists["initContainers" if settings.is_native else "containers"].insert(0, _sidecar(spec, others, options, settings))
    new_spec = {**spec, **{key: containers for key, containers in lists.items() if containers or key in spec}}
    existing = without_unused_volumes(spec.get("volumes") or [], _containers(new_spec))
    new_spec["volumes"] = strategic_merge(existing, volumes(options), "volumes")
    return new_spec


def _containers(spec: Document) -> list[Document]:
    return [container for key in CONTAINER_LISTS for container in spec.get(key) or ()]


def _container(
    container: Document, role: RoleAssignment | None, options: InjectionOptions, settings: Settings
) -> Document:
    """Return a container of the application with the parts for its role, or without parts for an earlier role."""
    is_only = options.role_arn is not None
    check_container(container, secret_directory(role, is_only=is_only)[0] if role else None)
    if role is None:
        return without_ours(container)
    return with_credentials(
        strip_eks_webhook(container),
        role,
        is_only=is_only,
        region=settings.region,
        is_sts_regional=options.is_sts_regional,
    )


def _sidecar(spec: Document, others: Iterable[Document], options: InjectionOptions, settings: Settings) -> Document:
    """Return our container, merged into the container of an earlier injection if there is one."""
    grace = spec.get("terminationGracePeriodSeconds")
    resources = resources_in(spec, others, settings.resources)
    new = sidecar_container(options, settings, resources, GRACE_SECONDS if grace is None else grace)
    existing = next((container for container in _containers(spec) if container["name"] == CONTAINER), None)
    if existing is None:
        return new
    check_sidecar(existing)
    merged: Document = strategic_merge(_without_outdated(strip_eks_webhook(existing), new), new)
    return merged


def _without_outdated(existing: Document, new: Document) -> Document:
    """Return an earlier sidecar without the parts that only injection adds and that the new sidecar lacks."""
    variables = {variable["name"] for variable in new["env"]}
    paths = {mount["mountPath"] for mount in new["volumeMounts"]}
    ours = {TOKEN_VOLUME, AUTHORIZATION_VOLUME, STATE_VOLUME}
    kept = {
        # A merge would keep requests and limits that the new sidecar lacks.
        **{key: value for key, value in existing.items() if key != "resources"},
        "env": [v for v in existing.get("env") or () if v["name"] in variables or v["name"] not in OUR_VARIABLES],
        "volumeMounts": [
            m for m in existing.get("volumeMounts") or () if m["mountPath"] in paths or m["name"] not in ours
        ],
    }
    for key, value in {"restartPolicy": "Always", "lifecycle": {"postStart": POST_START}}.items():
        if key not in new and kept.get(key) == value:  # from the other kind of sidecar
            del kept[key]
    return kept


def _labels(metadata: Document, spec: Document, new_spec: Document) -> Document:
    """Return a mapping with the new `labels` of the metadata, or an empty mapping if they do not change."""
    labels = metadata.get("labels")
    if not isinstance(labels, dict):
        return {}
    kept = without_unused_label(labels, spec, _containers(new_spec))
    return {"labels": kept} if len(kept) < len(labels) else {}


def _annotations(annotations: Document, granted: Iterable[str], settings: Settings, *, first: str) -> Document:
    kept = {name: value for name, value in annotations.items() if name != REJECTION}  # only a policy sets it
    new = {**kept, SKIP_CONTAINERS: skipping(annotations.get(SKIP_CONTAINERS), [CONTAINER, *granted])}
    if not settings.is_native:
        # Without this annotation, kubectl logs and exec would use the first container, which is the sidecar.
        new.setdefault(DEFAULT_CONTAINER, first)
    return new
