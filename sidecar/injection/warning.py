"""Warn the author of a Pod about settings that injection accepts but that will probably cause problems. Pure."""

from collections.abc import Collection, Iterator
from typing import Self

from sidecar.injection.app_container import unknown_exemptions
from sidecar.injection.names import DURATION, EKS_ROLE_ARN, SERVICE_ACCOUNT_ANNOTATIONS, TOKEN_EXPIRATION
from sidecar.injection.options import InjectionOptions, RoleAssignment
from sidecar.injection.pod_termination import outlives_its_credentials, served_while_terminating_seconds
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.shared_processes import How, readers
from sidecar.injection.sidecar_container import GRACE_SECONDS, USER
from sidecar.injection.similar_names import misnamed
from sidecar.kubernetes.document import Document

LEFT_ALONE = "ContainerLeftAlone"
PROXY_UNKNOWN = "ProxyExemptionUnknown"
SHARED_PROCESSES = "TokenReadableByContainer"
LONG_TERMINATION = "TerminationOutlivesCredentials"
NOT_READ = "AnnotationNotRead"

REASONS = {
    LEFT_ALONE: "a container gets no credentials",
    PROXY_UNKNOWN: "a container sets `NO_PROXY` by `valueFrom`, so injection cannot add 127.0.0.1",
    SHARED_PROCESSES: "with `shareProcessNamespace`, a container can read the sidecar's token",
    LONG_TERMINATION: "credentials can expire while the Pod terminates",
    NOT_READ: "an annotation of the ServiceAccount is probably misspelt",
}
"""The reason of the Event for each kind of warning, with a description of the kind."""

MAX_CHARACTERS = 256
"""Longest warning that the API server does not cut (Kubernetes, Dynamic Admission Control)."""


class Warned(str):
    """The text of a warning, with one of REASONS."""

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, reason: str, text: str) -> Self:
        warning = super().__new__(cls, text)
        warning.reason = reason
        return warning


def reason_of(warning: str) -> str:
    """Return the reason of a warning's Event. A text without a reason is about a container without credentials."""
    return warning.reason if isinstance(warning, Warned) else LEFT_ALONE


def warnings_about(
    spec: Document,
    options: InjectionOptions,
    roles: Collection[RoleAssignment],
    served: Collection[Document],
    beside: Collection[Document],
) -> Iterator[Warned]:
    """
    Yield the warnings for the author of a Pod.

    `served` are the containers that get credentials of `roles`. `beside` are the containers that run while the sidecar
    runs.
    """
    yield from (_unknown_proxy(container, names) for container in served if (names := unknown_exemptions(container)))
    for reader in readers(spec, beside, USER):
        drop = " or drop ALL capabilities" if reader.how is How.ROOT else ""
        yield Warned(
            SHARED_PROCESSES,
            f"Container {reader.name} {reader.clause(USER)}, irsa-sidecar's user, so it can read the token because "
            f"shareProcessNamespace is true. Set another runAsUser{drop}.",
        )
    yield from _long_termination(spec, options, min(role.session_seconds for role in roles))


def warnings_about_service_account(service_account: ServiceAccount | None) -> Iterator[Warned]:
    """
    Yield a warning for each misspelt annotation of the ServiceAccount, except the annotation of the role.

    If a Pod has no role, its rejection names that annotation. A Pod that names its own role does not need it.
    """
    names = (*service_account.annotations, *service_account.unread) if service_account else ()
    for name, meant in misnamed(names, SERVICE_ACCOUNT_ANNOTATIONS):
        if meant != EKS_ROLE_ARN:
            yield Warned(
                NOT_READ, f"The ServiceAccount has the annotation {name}, which has no effect. Did you mean {meant}?"
            )


def _unknown_proxy(container: Document, names: tuple[str, ...]) -> Warned:
    return Warned(
        PROXY_UNKNOWN,
        f"Container {container['name']} sets {' and '.join(names)} by valueFrom, so injection cannot add 127.0.0.1. "
        "Add it to the value, or clients may send the secret for the credentials to a proxy.",
    )


def _long_termination(spec: Document, options: InjectionOptions, session_seconds: int) -> Iterator[Warned]:
    """Warn that credentials may expire early: kubelets do not renew tokens of terminating Pods (kubernetes 116481)."""
    grace = spec.get("terminationGracePeriodSeconds")
    grace = GRACE_SECONDS if grace is None else grace
    if outlives_its_credentials(grace, options.expiration_seconds, session_seconds):
        served = served_while_terminating_seconds(options.expiration_seconds, session_seconds)
        yield Warned(
            LONG_TERMINATION,
            f"terminationGracePeriodSeconds is {str(grace)[:20]}, "
            "but the token of a terminating Pod is not renewed: "
            f"credentials may expire after {served:.0f} s. "
            f"Raise {TOKEN_EXPIRATION} or {DURATION}, or lower terminationGracePeriodSeconds.",
        )
