"""
The whole of it: a Pod, and the same Pod with a sidecar, or one sentence that says why not. Pure.

Rules. What a user wrote stays: containers, their order, their variables; what is promised to change is listed in
docs/injection.md. Applied to its own result it changes nothing. Applied after an annotation or a setting changed it
gives what a first time would, in another order at most. What is ours is known by its name; what others added to it in
between stays.
"""

from collections.abc import Iterable
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
from sidecar.injection.names import AUTHORIZATION_VOLUME, CONTAINER, OUR_VARIABLES, STATE_VOLUME, TOKEN_VOLUME
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
    """The Pod with its sidecar, and what its author should know."""

    pod: Document
    warnings: tuple[str, ...]


def inject(pod: Document, service_account: ServiceAccount | None, settings: Settings) -> Injected:
    """
    Give the Pod a sidecar for the role that its annotations, or its ServiceAccount's, name.

    The Pod that is passed stays as it is. Raises ConfigurationError, whose text is the refusal.
    """
    check_shape(pod)
    check_label(pod)
    check_names(pod.get("metadata") or {})
    metadata, spec = pod.get("metadata") or {}, pod["spec"]
    annotations = metadata.get("annotations") or {}
    options = read_options(annotations, service_account, settings)
    check_pod(annotations, spec, settings)
    theirs = {key: [c for c in spec.get(key) or () if c["name"] != CONTAINER] for key in CONTAINER_LISTS}
    by_name = {container["name"]: container for containers in theirs.values() for container in containers}
    runs_before_sidecar = () if settings.is_native else [container["name"] for container in theirs["initContainers"]]
    assignments, warnings = assign_roles(by_name, options, runs_before_sidecar)
    given = {
        key: [_given(container, assignments.get(container["name"]), options, settings) for container in containers]
        for key, containers in theirs.items()
    }
    given["initContainers" if settings.is_native else "containers"].insert(
        0, _sidecar(spec, by_name.values(), options, settings)
    )
    new_spec = {**spec, **{key: found for key, found in given.items() if found or key in spec}}
    all_given = [container for containers in given.values() for container in containers]
    new_spec["volumes"] = _volumes(spec, options, all_given)
    new_annotations = _annotations(annotations, assignments, settings, first=theirs["containers"][0]["name"])
    new_metadata = {**metadata, **_labels(metadata, spec, all_given), "annotations": new_annotations}
    beside = [container for name, container in by_name.items() if name not in runs_before_sidecar]
    warnings += tuple(
        warnings_about(spec, options, assignments.values(), [by_name[name] for name in assignments], beside)
    )
    warnings += tuple(warnings_about_service_account(service_account))
    return Injected({**pod, "metadata": new_metadata, "spec": new_spec}, warnings)


def _given(
    container: Document, assignment: RoleAssignment | None, options: InjectionOptions, settings: Settings
) -> Document:
    """The user's container as it is then: with what it needs for its role, or without what it had for one."""
    is_only = options.role_arn is not None
    check_container(container, secret_directory(assignment, is_only=is_only)[0] if assignment else None)
    if assignment is None:
        return without_ours(container)
    return with_credentials(
        strip_eks_webhook(container),
        assignment,
        is_only=is_only,
        region=settings.region,
        is_sts_regional=options.is_sts_regional,
    )


def _sidecar(spec: Document, others: Iterable[Document], options: InjectionOptions, settings: Settings) -> Document:
    """Ours, over what was added to an earlier one of ours."""
    grace = spec.get("terminationGracePeriodSeconds")
    resources = resources_in(spec, others, settings.resources)
    made = sidecar_container(options, settings, resources, GRACE_SECONDS if grace is None else grace)
    there = next((c for key in CONTAINER_LISTS for c in spec.get(key) or () if c["name"] == CONTAINER), None)
    if there is None:
        return made
    check_sidecar(there)
    return _renewed(strip_eks_webhook(there), made)


def _renewed(there: Document, made: Document) -> Document:
    """What we made, over an earlier one without what was ours alone and is not wanted any more."""
    variables = {variable["name"] for variable in made["env"]}
    paths = {mount["mountPath"] for mount in made["volumeMounts"]}
    ours = {TOKEN_VOLUME, AUTHORIZATION_VOLUME, STATE_VOLUME}
    kept = {
        **{key: value for key, value in there.items() if key != "resources"},  # what asks for less may allow too much
        "env": [v for v in there.get("env") or () if v["name"] in variables or v["name"] not in OUR_VARIABLES],
        "volumeMounts": [
            m for m in there.get("volumeMounts") or () if m["mountPath"] in paths or m["name"] not in ours
        ],
    }
    for key, only_kind in {"restartPolicy": "Always", "lifecycle": {"postStart": POST_START}}.items():
        if key not in made and kept.get(key) == only_kind:  # of the other kind of sidecar
            del kept[key]
    renewed: Document = strategic_merge(kept, made)
    return renewed


def _volumes(spec: Document, options: InjectionOptions, containers: Iterable[Document]) -> list[Document]:
    there = without_unused_volumes(spec.get("volumes") or [], containers)
    placed: list[Document] = strategic_merge(there, volumes(options), "volumes")
    return placed


def _labels(metadata: Document, spec: Document, containers: Iterable[Document]) -> Document:
    """Return what to write over the metadata's labels, which is nothing if they stay."""
    labels = metadata.get("labels")
    if not isinstance(labels, dict):
        return {}
    kept = without_unused_label(labels, spec, containers)
    return {"labels": kept} if len(kept) < len(labels) else {}


def _annotations(annotations: Document, granted: Iterable[str], settings: Settings, *, first: str) -> Document:
    new = {**annotations, SKIP_CONTAINERS: skipping(annotations.get(SKIP_CONTAINERS), [CONTAINER, *granted])}
    if not settings.is_native:
        # kubectl's logs and exec would turn to the first container, the sidecar.
        new.setdefault(DEFAULT_CONTAINER, first)
    return new
