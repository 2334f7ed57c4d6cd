"""
Group Pods by the workload that created them, so that one finding covers all Pods of a Deployment. Pure.

Rule: names in a command for the shell are quoted, because a tenant can write any text as the name of a Pod's owner.
"""

import shlex
from collections.abc import Iterable
from typing import NamedTuple

from sidecar.audit.finding import Subject
from sidecar.audit.inventory import Pod

RESTARTABLE = ("DaemonSet", "Deployment", "StatefulSet")
"""Kinds that `kubectl rollout restart` accepts."""


class Workload(NamedTuple):
    """A workload, or a Pod without one, and the Pods that a finding concerns."""

    subject: Subject
    pods: tuple[Pod, ...]

    def problem(self, text: str) -> str:
        """Return the text, with the number of Pods if there are several."""
        return text if len(self.pods) == 1 else f"{text} ({len(self.pods)} Pods)"

    @property
    def restart(self) -> str:
        """The step that creates the Pods again."""
        kind, name, namespace = self.subject
        if kind in RESTARTABLE:
            target = shlex.quote(f"{kind.lower()}/{name}")
            return f"Restart the Pods: kubectl -n {shlex.quote(namespace)} rollout restart {target}"
        if kind == "Pod":
            return "Delete the Pod, and create it again"
        return "Delete the Pods, so that their controller creates new ones"


def workloads(pods: Iterable[Pod]) -> tuple[Workload, ...]:
    """Return the workloads of these Pods, in the order of their first Pod."""
    found: dict[Subject, list[Pod]] = {}
    for pod in pods:
        found.setdefault(workload_of(pod), []).append(pod)
    return tuple(Workload(subject, tuple(some)) for subject, some in found.items())


def workload_of(pod: Pod) -> Subject:
    kind, _, name = pod.owner.partition(" ")
    return Subject(kind, name, pod.namespace) if name else Subject("Pod", pod.name, pod.namespace)


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Return at most `limit` names, and the number of the others."""
    known = list(names)
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more
