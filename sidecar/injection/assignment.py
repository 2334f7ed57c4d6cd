"""
Which container gets which role. Pure.

Rule: a container has one role at most, as an SDK knows one endpoint. One that an annotation names gets its role or the
Pod is refused; one that nobody names and that cannot have it is left alone, and its author is told why.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.app_container import own_credentials
from sidecar.injection.eks_webhook import without_amazons
from sidecar.injection.names import CONTAINER, CONTAINERS, ROLES, SKIP_CONTAINERS, Document
from sidecar.injection.options import Grant, Wishes
from sidecar.injection.warning import LEFT_ALONE, Warned


class Choice(NamedTuple):
    """The grant of each container that gets one, by name, and what is to be said of the others."""

    grants: dict[str, Grant]
    warnings: tuple[str, ...]


def choose(containers: Mapping[str, Document], wishes: Wishes, too_early: Collection[str]) -> Choice:
    """
    Of the user's containers by name; `too_early` names those that run before there is a sidecar.

    Raises ConfigurationError for what does not fit together, and where nobody would get credentials.
    """
    named = _named(wishes, containers)
    open_grant = next((grant for grant in wishes.grants if grant.containers is None), None)
    grants: dict[str, Grant] = {}
    warnings: list[str] = []
    for name, container in containers.items():
        grant = named.get(name, open_grant)
        if grant is None or _left_out_by(name, wishes):
            continue
        obstacle = _obstacle(container, is_too_early=name in too_early)
        if obstacle is None:
            grants[name] = grant
        elif name in named or name in (wishes.containers or ()):
            raise ConfigurationError(
                f"Container {name} is to get credentials, but it {obstacle}: change one or the other."
            )
        else:
            warnings.append(f"Container {name} gets no credentials of irsa-sidecar, as it {obstacle}.")
    if not grants:
        why = "the annotations leave all of them out."
        if not containers:
            why = f"the Pod has none but {CONTAINER}, whose name is the sidecar's."
        raise ConfigurationError("No container would get credentials: " + (" ".join(warnings) or why))
    return Choice(grants, tuple(Warned(LEFT_ALONE, text) for text in warnings))


def _obstacle(container: Document, *, is_too_early: bool) -> str | None:
    if is_too_early:
        return "runs before the sidecar, which before Kubernetes 1.29 starts with the application"
    variable = own_credentials(without_amazons(container))
    return f"sets {variable}, which says where its credentials come from" if variable else None


def _left_out_by(name: str, wishes: Wishes) -> str | None:
    """The annotation that leaves the container out; None if none does."""
    if name in wishes.skipped:
        return SKIP_CONTAINERS
    return CONTAINERS if wishes.containers is not None and name not in wishes.containers else None


def _named(wishes: Wishes, known: Collection[str]) -> dict[str, Grant]:
    """The grants of the containers that a role names."""
    for annotation, names in ((CONTAINERS, wishes.containers), (SKIP_CONTAINERS, wishes.skipped)):
        _check_names(f"annotation {annotation}", names or (), known)
    named: dict[str, Grant] = {}
    for grant in wishes.grants:
        _check_names(f"annotation {ROLES}: role {grant.role}", grant.containers or (), known)
        for name in grant.containers or ():
            if name in named:
                raise ConfigurationError(
                    f"annotation {ROLES} gives container {name} the roles {named[name].role} and {grant.role}, and an "
                    "SDK asks for one: name it in one of them."
                )
            if out_by := _left_out_by(name, wishes):
                raise ConfigurationError(
                    f"annotation {ROLES} gives role {grant.role} to container {name}, which {out_by} leaves out: "
                    "change one or the other."
                )
            named[name] = grant
    return named


def _check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{what} names {name!r}, which is no container of the Pod: it has {', '.join(known)}."
            )
