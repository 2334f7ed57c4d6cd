"""
Assign roles to containers. Pure.

Rule: a container has at most one role, because an SDK knows one endpoint. A container that an annotation names gets its
role, or the Pod is rejected. A container that no annotation names and that cannot get a role stays unchanged, and a
warning gives the reason.
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
    """The role of each container that gets one, by the container's name, and warnings about the others."""

    roles: dict[str, RoleAssignment]
    warnings: tuple[str, ...]


def assign_roles(
    containers: Mapping[str, Document], options: InjectionOptions, runs_before_sidecar: Collection[str]
) -> Assignment:
    """
    Assign the roles to the containers of the application, which are given by name.

    Raises ConfigurationError if annotations contradict each other, or if no container would get credentials.
    """
    named = _named(options, containers)
    default_role = next((role for role in options.roles if role.containers is None), None)
    roles: dict[str, RoleAssignment] = {}
    warnings: list[str] = []
    for name, container in containers.items():
        role = named.get(name, default_role)
        if role is None or _excluded_by(name, options):
            continue
        obstacle = _obstacle(container, is_before_sidecar=name in runs_before_sidecar)
        if obstacle is None:
            roles[name] = role
        elif name in named or name in (options.containers or ()):
            raise ConfigurationError(
                f"An annotation requests credentials for container {name}, but the container {obstacle}",
                fix="Change the annotation or the container",
            )
        else:
            warnings.append(f"Container {name} gets no credentials from irsa-sidecar because it {obstacle}.")
    if not roles:
        raise _no_container(containers, warnings)
    return Assignment(roles, tuple(Warned(LEFT_ALONE, text) for text in warnings))


def _no_container(containers: Collection[str], warnings: list[str]) -> ConfigurationError:
    why, fix = "the annotations exclude all of them", f"Name at least one in {CONTAINERS} or {ROLES}"
    if not containers:
        why, fix = f"the Pod has only {CONTAINER}, which is the sidecar's name", "Rename the container"
    elif warnings:
        why, fix = " ".join(warnings), "Change one of these containers, or run the Pod without the sidecar"
    return ConfigurationError(f"No container would get credentials: {why}", fix=fix)


def _obstacle(container: Document, *, is_before_sidecar: bool) -> str | None:
    if is_before_sidecar:
        return "runs before the sidecar, which starts together with the application before Kubernetes 1.29"
    variable = own_credentials(strip_eks_webhook(container))
    return f"sets {variable}, which names another source of credentials" if variable else None


def _excluded_by(name: str, options: InjectionOptions) -> str | None:
    """Return the annotation that excludes the container from credentials, or None."""
    if name in options.skipped:
        return SKIP_CONTAINERS
    return CONTAINERS if options.containers is not None and name not in options.containers else None


def _named(options: InjectionOptions, known: Collection[str]) -> dict[str, RoleAssignment]:
    """Return the role of each container that a role names."""
    for annotation, names in ((CONTAINERS, options.containers), (SKIP_CONTAINERS, options.skipped)):
        _check_names(f"annotation {annotation}", names or (), known)
    named: dict[str, RoleAssignment] = {}
    for role in options.roles:
        _check_names(f"annotation {ROLES}: role {role.name}", role.containers or (), known)
        for name in role.containers or ():
            if name in named:
                raise ConfigurationError(
                    f"annotation {ROLES} gives container {name} the roles {named[name].name} and {role.name}, "
                    "but an SDK uses one",
                    fix="Name the container in only one role",
                    setting=f"annotation {ROLES}",
                )
            if excluding := _excluded_by(name, options):
                raise ConfigurationError(
                    f"annotation {ROLES} gives role {role.name} to container {name}, which {excluding} excludes",
                    fix="Change one of these annotations",
                    setting=f"annotation {ROLES}",
                )
            named[name] = role
    return named


def _check_names(place: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{place} names {name!r}, which is not a container of the Pod",
                fix=f"Use one of {', '.join(known)}",
                setting=place,
            )
