"""Find the Pods with a sidecar, and the admin port of each. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.addresses import Address, is_loopback
from sidecar.doctor.admin_address import FLAG, admin_address, flag_value
from sidecar.doctor.checks.pod import PodFacts
from sidecar.kubernetes.names import NAME, NAMESPACE, is_name
from sidecar.serving.status import DaemonStatus

FINISHED_PHASES = frozenset({"Succeeded", "Failed"})

MAX_MESSAGE = 300
"""Longest message of a container that ended, in characters."""


class Target(NamedTuple):
    """
    A Pod with a sidecar.

    `address` is the admin address, or None if it is unknown. `problem` is the reason why the daemon cannot respond, or
    empty. `last_exit` describes the end of the container's previous process, or is empty. `flags` tell `irsa-sidecar
    status` in the container the address, if a flag of the daemon and not a variable contains it.
    """

    namespace: str
    pod: str
    container: str
    address: Address | None
    problem: str = ""
    restarts: int = 0
    last_exit: str = ""
    is_terminating: bool = False
    flags: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Return whether only processes of the Pod can connect to the admin address."""
        return self.address is not None and is_loopback(self.address[0])


class PodState(NamedTuple):
    """The state of the daemon in a Pod, or the problem and the next step if the state is unknown."""

    target: Target
    status: DaemonStatus | None
    problem: str = ""
    next_step: str = ""

    @property
    def is_available(self) -> bool:
        """Return whether all roles of the Pod have valid credentials."""
        return self.status is not None and self.status.is_available


def target_of(document: Mapping[str, Any]) -> Target | None:
    """Return the target, or None for a Pod without a sidecar or a Pod that has finished."""
    metadata, status = _mapping(document.get("metadata")), _mapping(document.get("status"))
    facts = PodFacts(_text(metadata.get("name")), _text(metadata.get("namespace")), "", dict(document))
    container = facts.sidecar
    if container is None or _text(status.get("phase")) in FINISHED_PHASES:
        return None
    name = _text(container.get("name"))
    of_container = facts.status_of(name)
    found = admin_address(container)
    restarts = of_container.get("restartCount")
    return Target(
        namespace=facts.namespace,
        pod=facts.name,
        container=name,
        address=found.address,
        problem=_bad_name(metadata, name) or _not_running(of_container) or found.problem,
        restarts=restarts if type(restarts) is int else 0,
        last_exit=_exit_text(_mapping(_mapping(of_container.get("lastState")).get("terminated"))),
        is_terminating=bool(metadata.get("deletionTimestamp")),
        flags=() if (flag := flag_value(container)) is None else (FLAG, flag),
    )


def _bad_name(metadata: Mapping[str, Any], container: str) -> str:
    """Return the problem of a Pod that no API server accepts, or an empty text. Such a name could change a path."""
    is_valid = is_name(metadata.get("name"), NAME) and is_name(metadata.get("namespace"), NAMESPACE)
    if is_valid and is_name(container, NAMESPACE):
        return ""
    return "the API server returned a Pod with an invalid name"


def proxy_path(target: Target) -> str:
    """Return the path at which the API server passes a request on to the daemon."""
    port = target.address[1] if target.address is not None else 0
    return f"/api/v1/namespaces/{target.namespace}/pods/{target.pod}:{port}/proxy/status"


def exec_command(target: Target) -> list[str]:
    """Return the command that prints the document inside the sidecar's container."""
    return ["irsa-sidecar", "status", "--json", *target.flags]


def _not_running(status: Mapping[str, Any]) -> str:
    """Return why the container does not run, or an empty text if it runs."""
    state = _mapping(status.get("state"))
    if "running" in state:
        return ""
    reason = _reason(_mapping(state.get("waiting"))) or _reason(_mapping(state.get("terminated")))
    ended = _mapping(state.get("terminated")) or _mapping(_mapping(status.get("lastState")).get("terminated"))
    exit_text = _exit_text(ended)
    return f"the sidecar does not run: {reason or 'not started yet'}{f'. {exit_text}' if exit_text else ''}"


def _exit_text(terminated: Mapping[str, Any]) -> str:
    if not terminated:
        return ""
    reason, exit_code = _reason(terminated), terminated.get("exitCode")
    because = f" ({reason})" if reason not in {"", "Error", "Completed"} else ""
    message = " ".join(_text(terminated.get("message")).split())[:MAX_MESSAGE]
    exit_status = exit_code if type(exit_code) is int else "unknown"
    return f"Its last exit status was {exit_status}{because}{f': {message}' if message else ''}"


def _reason(state: Mapping[str, Any]) -> str:
    return _text(state.get("reason"))[:MAX_MESSAGE]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def can_respond(target: Target, *, execs: bool) -> bool:
    """Return whether a request can reach the daemon, with kubectl exec or through the API server's proxy."""
    return not target.problem and (execs or (target.address is not None and not target.is_local))
