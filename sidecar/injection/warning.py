"""A sentence for the author of a Pod that is injected although something in it needs attention. Pure."""

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
    PROXY_UNKNOWN: "a container's `NO_PROXY` comes from elsewhere and cannot be extended",
    SHARED_PROCESSES: "with `shareProcessNamespace`, a container can read the sidecar's token",
    LONG_TERMINATION: "credentials can expire while the Pod terminates",
    NOT_READ: "an annotation of the ServiceAccount is almost one that is read",
}
"""The reason of the Event that repeats a warning, and when it is given."""

MAX_CHARACTERS = 256
"""Longest warning that the API server passes on whole (Kubernetes, Dynamic Admission Control)."""


class Warned(str):
    """A warning's sentence, with one of REASONS."""

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, reason: str, text: str) -> Self:
        made = super().__new__(cls, text)
        made.reason = reason
        return made


def reason_of(warning: str) -> str:
    """Return the reason of a warning's Event. A sentence that names none is about a container left alone."""
    return warning.reason if isinstance(warning, Warned) else LEFT_ALONE


def warnings_about(
    spec: Document,
    options: InjectionOptions,
    assignments: Collection[RoleAssignment],
    given: Collection[Document],
    beside: Collection[Document],
) -> Iterator[Warned]:
    """
    Yield what the author of a Pod should know.

    `given` are the containers that get credentials for `grants`, and `beside` those that run while the sidecar does.
    """
    yield from (_unknown_proxy(container, names) for container in given if (names := unknown_exemptions(container)))
    for reader in readers(spec, beside, USER):
        drop = " or drop ALL capabilities" if reader.how is How.ROOT else ""
        yield Warned(
            SHARED_PROCESSES,
            f"Container {reader.name} {reader.clause(USER)}, irsa-sidecar's user, so it can read the token because "
            f"shareProcessNamespace is true. Set another runAsUser{drop}.",
        )
    yield from _long_termination(spec, options, min(assignment.session_seconds for assignment in assignments))


def warnings_about_service_account(service_account: ServiceAccount | None) -> Iterator[Warned]:
    """
    Yield the annotations of the ServiceAccount that are almost right, except the role's.

    A Pod without a role is rejected with that name, and one that names its own role does not need it.
    """
    names = (*service_account.annotations, *service_account.unread) if service_account else ()
    for name, meant in misnamed(names, SERVICE_ACCOUNT_ANNOTATIONS):
        if meant != EKS_ROLE_ARN:
            yield Warned(
                NOT_READ, f"The ServiceAccount has the annotation {name}, which is not read: did you mean {meant}?"
            )


def _unknown_proxy(container: Document, names: tuple[str, ...]) -> Warned:
    return Warned(
        PROXY_UNKNOWN,
        f"Container {container['name']} has {' and '.join(names)} by valueFrom, where 127.0.0.1 cannot be added. "
        "Add it to that value, or clients may send the credentials' secret to a proxy.",
    )


def _long_termination(spec: Document, options: InjectionOptions, session_seconds: int) -> Iterator[Warned]:
    """The kubelet renews no token of a terminating Pod (kubernetes issue 116481)."""
    grace = spec.get("terminationGracePeriodSeconds")
    grace = GRACE_SECONDS if grace is None else grace
    if outlives_its_credentials(grace, options.expiration_seconds, session_seconds):
        served = served_while_terminating_seconds(options.expiration_seconds, session_seconds)
        yield Warned(
            LONG_TERMINATION,
            f"terminationGracePeriodSeconds is {str(grace)[:20]}, but no token of a terminating Pod is renewed: "
            f"credentials may expire after {served:.0f} s. Raise {TOKEN_EXPIRATION} or {DURATION}, or lower it.",
        )
