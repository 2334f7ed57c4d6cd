"""Provide each test with a namespace of the strictest Pod Security level, and with its Pods and logs."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, Done
from tests.cluster.waiting import GUARD_SECONDS, wait_until

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
"""The labels of a test's namespace. `warn` reports problems of a Deployment, and `enforce` rejects its Pods."""

CHECKS = 600
"""The number of checks in one wait. The number is limited, because each kubectl uses 0.1 s of processor time."""


class Namespace:
    """A namespace, and the kubectl commands that use it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        return self._cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin, check=check)

    def command(self, *arguments: str) -> list[str]:
        """Return a kubectl command that a test can run in the background."""
        return [*self._cluster.inside(), *self._cluster.kubectl_command(), f"--namespace={self.name}", *arguments]

    def get(self, *arguments: str) -> Any:
        return self._cluster.get(f"--namespace={self.name}", *arguments)

    def apply(self, *objects: dict[str, Any], dry_run: bool = False) -> Done:
        """Apply the manifests, and reject unknown fields. With `dry_run` the API server stores nothing."""
        flags = ["--dry-run=server"] if dry_run else []
        text = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "--server-side", "--validate=strict", *flags, "--filename=-", stdin=text)

    def token(self, account: str = "app", *, audience: str = "sts.amazonaws.com", **flags: str) -> str:
        """Return a token of the TokenRequest API."""
        more = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        return self.kubectl("create", "token", account, f"--audience={audience}", *more).stdout.strip()

    def pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("pod", name)
        return found

    def wait_for(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the condition is true for the Pod, and return the Pod."""

        def check() -> dict[str, Any] | None:
            pod = self.pod(name)
            return pod if condition(pod) else None

        return wait_until(check, f"the condition of Pod {name}", details=lambda: self.details(name))

    def kill(self, pod: str, container: str) -> dict[str, Any]:
        """
        Kill the container as the kernel does when memory runs out.

        Returns the Pod once the container is ready again.
        """
        before = container_state(self.pod(pod), container)["containerID"]
        self._cluster.kill_container(before)

        def is_ready_again(found: dict[str, Any]) -> bool:
            state = container_state(found, container)
            return bool(state["ready"]) and state["containerID"] != before

        return self.wait_for(pod, is_ready_again)

    def logs(self, pod: str, container: str, *, previous: bool = False) -> str:
        """Return the container's log, or an empty string if the container does not exist yet."""
        flags = ["--previous"] if previous else []
        return self.kubectl("logs", pod, f"--container={container}", *flags, check=False).stdout

    def logged(self, pod: str, container: str, text: str, *, seconds: float = GUARD_SECONDS) -> str:
        """Wait until the text is in the container's log, and return the log."""

        def check() -> str | None:
            found = self.logs(pod, container)
            return found if text in found else None

        what = f"{text!r} in the log of {container}"
        return wait_until(
            check, what, seconds=seconds, pause_seconds=seconds / CHECKS, details=lambda: self.details(pod)
        )

    def details(self, pod: str) -> str:
        """Return the description, events and logs of a Pod, for the message of a failed test."""
        described = self.kubectl("describe", "pod", pod, check=False).stdout
        return described + self.kubectl("logs", pod, "--all-containers", "--prefix", check=False).stdout


@contextmanager
def new_namespace(cluster: Cluster) -> Iterator[Namespace]:
    """Create a namespace with the ServiceAccount `app`. The namespace is deleted in the background at the end."""
    namespace = Namespace(cluster, f"test-{uuid.uuid4().hex[:8]}")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": RESTRICTED}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": namespace.name}}
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all([document, account]))
    try:
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def address_of(pod: dict[str, Any], family: str) -> str:
    """Return the Pod's address of that family."""
    (found,) = [each["ip"] for each in pod["status"]["podIPs"] if f"IPv{ip_address(each['ip']).version}" == family]
    return str(found)


def container_state(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the status of a container as the kubelet reports it, or an empty status before the first report."""
    status = pod["status"]
    statuses = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return next((state for state in statuses if state["name"] == name), {})
