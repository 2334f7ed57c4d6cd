"""One test's corner of a cluster: a namespace as strict as Pod Security has it, and what happens in it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, Done
from tests.cluster.waiting import GUARD_SECONDS, wait_until

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
"""`warn` says of a Deployment or Job at once what `enforce` says of its Pods only later."""

LOOKS = 600
"""How often is looked for something in its time: kubectl costs a tenth of a second of a processor."""


class Namespace:
    """Its name, and kubectl in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        return self._cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin, check=check)

    def command(self, *arguments: str) -> list[str]:
        """Of a kubectl that is to run beside the test."""
        return [*self._cluster.inside(), *self._cluster.kubectl_command(), f"--namespace={self.name}", *arguments]

    def get(self, *arguments: str) -> Any:
        return self._cluster.get(f"--namespace={self.name}", *arguments)

    def apply(self, *objects: dict[str, Any], dry_run: bool = False) -> Done:
        """Have them; unknown fields are refused. `dry_run` goes through admission and stops there."""
        flags = ["--dry-run=server"] if dry_run else []
        text = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "--server-side", "--validate=strict", *flags, "--filename=-", stdin=text)

    def token(self, account: str = "app", *, audience: str = "sts.amazonaws.com", **flags: str) -> str:
        """What the TokenRequest API issues."""
        more = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        return self.kubectl("create", "token", account, f"--audience={audience}", *more).stdout.strip()

    def pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("pod", name)
        return found

    def wait_for(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The Pod once the condition holds of it."""

        def look() -> dict[str, Any] | None:
            pod = self.pod(name)
            return pod if condition(pod) else None

        return wait_until(look, f"what {name} is waited for", told=lambda: self.told(name))

    def kill(self, pod: str, container: str) -> dict[str, Any]:
        """End the container as the kernel does when memory runs out; the Pod once another is ready in its place."""
        before = container_state(self.pod(pod), container)["containerID"]
        self._cluster.kill_container(before)

        def is_ready_again(found: dict[str, Any]) -> bool:
            state = container_state(found, container)
            return bool(state["ready"]) and state["containerID"] != before

        return self.wait_for(pod, is_ready_again)

    def logs(self, pod: str, container: str, *, previous: bool = False) -> str:
        """What the container has written; nothing if there is no such container yet."""
        flags = ["--previous"] if previous else []
        return self.kubectl("logs", pod, f"--container={container}", *flags, check=False).stdout

    def logged(self, pod: str, container: str, text: str, *, seconds: float = GUARD_SECONDS) -> str:
        """What the container has written, once that is in it."""

        def look() -> str | None:
            found = self.logs(pod, container)
            return found if text in found else None

        what = f"{text!r} in the log of {container}"
        return wait_until(look, what, seconds=seconds, pause_seconds=seconds / LOOKS, told=lambda: self.told(pod))

    def told(self, pod: str) -> str:
        """Everything about a Pod that helps to see why it is not as it should be."""
        described = self.kubectl("describe", "pod", pod, check=False).stdout
        return described + self.kubectl("logs", pod, "--all-containers", "--prefix", check=False).stdout


@contextmanager
def new_namespace(cluster: Cluster) -> Iterator[Namespace]:
    """With the ServiceAccount `app`; it goes in the background in the end."""
    namespace = Namespace(cluster, f"test-{uuid.uuid4().hex[:8]}")
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": RESTRICTED}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": namespace.name}}
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all([made, account]))
    try:
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def address_of(pod: dict[str, Any], family: str) -> str:
    """The Pod's address of that family."""
    (found,) = [each["ip"] for each in pod["status"]["podIPs"] if f"IPv{ip_address(each['ip']).version}" == family]
    return str(found)


def container_state(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """What the kubelet says of the container, whichever kind it is; nothing before it says anything."""
    status = pod["status"]
    statuses = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return next((state for state in statuses if state["name"] == name), {})
