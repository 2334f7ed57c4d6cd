"""
Find containers that can read another container's files through `/proc` in a shared process namespace. Pure.

Processes of the same user can read `/proc/PID/root` of a process (kernel, ptrace access mode). The sidecar prevents
this, because it makes its process not dumpable. But Python needs some milliseconds until then, and so does each exec
probe. So with `shareProcessNamespace` the files are protected only from other users. They are not protected from root
with CAP_SETUID or CAP_SYS_PTRACE. With CAP_SETUID, which container runtimes grant by default, root can become any user.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

Document = Mapping[str, Any]

ROOT = 0
_BY_CAPABILITY = frozenset({"ALL", "SETUID", "SYS_PTRACE"})


class How(Enum):
    """Reason why a container can read the files of a process of `user`, as a clause."""

    SAME_USER = "runs as {user}"
    UNKNOWN_USER = "has no runAsUser and may run as {user}"
    ROOT = "runs as root and can become {user}"


class Reader(NamedTuple):
    """A container that can read the files of another container's process, and the reason."""

    name: str
    how: How

    def clause(self, user: int) -> str:
        """Return a clause about how the container can read the files of this user."""
        return self.how.value.format(user=user)


def readers(spec: Document, containers: Iterable[Document], user: int) -> tuple[Reader, ...]:
    """Return the containers that can read files of a process of `user`. Without shared processes there are none."""
    if spec.get("shareProcessNamespace") is not True:
        return ()
    found = [(str(container.get("name")), _how(spec, container, user)) for container in containers]
    return tuple(Reader(name, how) for name, how in found if how is not None)


def user_of(spec: Document, container: Document) -> int | None:
    """Return the user in the securityContext of the container or else of the Pod, or None if neither names a user."""
    for owner in (container, spec):
        found = _mapping(owner.get("securityContext")).get("runAsUser")
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    return None


def _how(spec: Document, container: Document, user: int) -> How | None:
    own = user_of(spec, container)
    if own is None:
        return How.UNKNOWN_USER
    if own == user:
        return How.SAME_USER
    return How.ROOT if own == ROOT and _can_become_another(_mapping(container.get("securityContext"))) else None


def _can_become_another(context: Document) -> bool:
    """Return whether root has a capability of _BY_CAPABILITY. `privileged` grants all of them despite `drop`."""
    capabilities = _mapping(context.get("capabilities"))
    added, dropped = _names(capabilities.get("add")), _names(capabilities.get("drop"))
    is_by_default = not dropped & {"ALL", "SETUID"}
    return context.get("privileged") is True or is_by_default or bool(added & _BY_CAPABILITY)


def _names(value: Any) -> set[str]:
    return {str(name).upper().removeprefix("CAP_") for name in value} if isinstance(value, list) else set()


def _mapping(value: Any) -> Document:
    return value if isinstance(value, Mapping) else {}
