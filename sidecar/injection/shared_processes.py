"""
Which containers can read another container's files through `/proc` in a shared process namespace. Pure.

`/proc/PID/root` of a process is open to processes of the same user (kernel, ptrace access mode). The sidecar makes its
process not dumpable, which closes it, but Python needs some milliseconds before it can, and each exec probe needs them
again. So with `shareProcessNamespace` only another user is kept out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]


class Reader(NamedTuple):
    """A container that can read the files of `user`. `is_known` is false where only the image names its user."""

    name: str
    is_known: bool


def readers(spec: Document, containers: Iterable[Document], user: int) -> tuple[Reader, ...]:
    """Return those of the containers that run as `user` or may do so; none where processes are not shared."""
    if spec.get("shareProcessNamespace") is not True:
        return ()
    users = [(str(container.get("name")), user_of(spec, container)) for container in containers]
    return tuple(Reader(name, found is not None) for name, found in users if found in (None, user))


def user_of(spec: Document, container: Document) -> int | None:
    """Return the user that the container's or else the Pod's securityContext names; None if only the image does."""
    for owner in (container, spec):
        context = owner.get("securityContext")
        found = context.get("runAsUser") if isinstance(context, Mapping) else None
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    return None
