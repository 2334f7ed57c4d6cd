"""
Which container gets which role. Pure.

Rule: a container has one role at most, as an SDK knows one endpoint. One that an annotation names gets its role or the
Pod is refused; one that nobody names and that cannot have it is left alone, and its author is told why.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.app_container import own_credentials
from sidecar.injection.eks_webhook import strip_eks_webhook
from sidecar.injection.names import CONTAINER, CONTAINERS, ROLES, SKIP_CONTAINERS
from sidecar.injection.options import InjectionOptions, RoleAssignment
from sidecar.injection.warning import LEFT_ALONE, Warned
from sidecar.kubernetes.document import Document


class Assignment(NamedTuple):
    """The grant of each container that gets one, by name, and what is to be said of the others."""

    assignments: dict[str, RoleAssignment]
    warnings: tuple[str, ...]


def assign_roles(
    containers: Mapping[str, Document], options: InjectionOptions, runs_before_sidecar: Collection[str]
) -> Assignment:
    """
    Of the user's containers by name; `too_early` names those that run before there is a sidecar.

    Raises ConfigurationError for what does not fit together, and where nobody would get credentials.
    """
    named = _named(options, containers)
    open_assignment = next((assignment for assignment in options.assignments if assignment.containers is None), None)
    assignments: dict[str, RoleAssignment] = {}
    warnings: list[str] = []
    for name, container in containers.items():
        assignment = named.get(name, open_assignment)
        if assignment is None or _left_out_by(name, options):
            continue
        obstacle = _obstacle(container, is_before_sidecar=name in runs_before_sidecar)
        if obstacle is None:
            assignments[name] = assignment
        elif name in named or name in (options.containers or ()):
            raise ConfigurationError(
                f"Container {name} is to get credentials, but it {obstacle}: change one or the other."
            )
        else:
            warnings.append(f"Container {name} gets no credentials of irsa-sidecar, as it {obstacle}.")
    if not assignments:
        why = "the annotations leave all of them out."
        if not containers:
            why = f"the Pod has none but {CONTAINER}, whose name is the sidecar's."
        raise ConfigurationError("No container would get credentials: " + (" ".join(warnings) or why))
    return Assignment(assignments, tuple(Warned(LEFT_ALONE, text) for text in warnings))


def _obstacle(container: Document, *, is_before_sidecar: bool) -> str | None:
    if is_before_sidecar:
        return "runs before the sidecar, which before Kubernetes 1.29 starts with the application"
    variable = own_credentials(strip_eks_webhook(container))
    return f"sets {variable}, which says where its credentials come from" if variable else None


def _left_out_by(name: str, options: InjectionOptions) -> str | None:
    """The annotation that leaves the container out; None if none does."""
    if name in options.skipped:
        return SKIP_CONTAINERS
    return CONTAINERS if options.containers is not None and name not in options.containers else None


def _named(options: InjectionOptions, known: Collection[str]) -> dict[str, RoleAssignment]:
    """The grants of the containers that a role names."""
    for annotation, names in ((CONTAINERS, options.containers), (SKIP_CONTAINERS, options.skipped)):
        _check_names(f"annotation {annotation}", names or (), known)
    named: dict[str, RoleAssignment] = {}
    for assignment in options.assignments:
        _check_names(f"annotation {ROLES}: role {assignment.role}", assignment.containers or (), known)
        for name in assignment.containers or ():
            if name in named:
                raise ConfigurationError(
                    f"annotation {ROLES} gives container {name} the roles {named[name].role} and {assignment.role}, "
                    "and an SDK asks for one: name it in one of them."
                )
            if out_by := _left_out_by(name, options):
                raise ConfigurationError(
                    f"annotation {ROLES} gives role {assignment.role} to container {name}, which {out_by} leaves out: "
                    "change one or the other."
                )
            named[name] = assignment
    return named


def _check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{what} names {name!r}, which is no container of the Pod: it has {', '.join(known)}."
            )
