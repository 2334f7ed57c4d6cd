"""
Start all processes of a cluster in order, as their parent, and stop if one of them exits or a signal arrives.

    python -m tests.cluster.supervisor STATE

In full mode this program is process 1 in new namespaces: network, mounts and processes. At the end the kernel
therefore removes all processes and mounts of the kubelet and containerd. In control mode the components end with this
process.
"""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.cluster import binaries, components, containerd
from tests.cluster.components import Component
from tests.cluster.layout import FAMILIES, NODE, Layout, adding

PATIENCE_SECONDS = 120.0

NODE_NETWORK = (
    "ip link set lo up",
    "ip link add node0 type bridge",
    "ip link set node0 up",
    # The addresses of Services belong to no device. Rules of kube-proxy rewrite these addresses.
    *(adding(family.node, "node0") for family in FAMILIES.values()),
    *(f"ip route add {family.services} dev node0" for family in FAMILIES.values()),
)

FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
"""The kernel settings that a node needs to forward the packets of Pods."""

NODE_FOLDERS = ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")
"""The folders in which the components of a node always write, because no setting changes these paths."""


class ComponentError(Exception):
    """A component that did not start, or that exited."""


def main(state: Path) -> None:
    layout = Layout.load(state)
    running: dict[int, Component] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        _start_all(layout, running)
        layout.ready.touch()
        while True:
            _reap(running, block=True)
    except ComponentError as failure:
        raise SystemExit(str(failure)) from None


def _stop(*_: object) -> None:
    raise SystemExit(0)


def _start_all(layout: Layout, running: dict[int, Component]) -> None:
    kubelab, api = binaries.kubelab(), Api(layout)

    def start(component: Component) -> None:
        running[_spawn(component, layout)] = component

    def wait_for(name: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            _reap(running, block=False)
            if time.monotonic() > deadline:
                raise ComponentError(f"timed out waiting for {name}; the logs are in {layout.logs}")
            time.sleep(0.1)

    if layout.mode == "full":
        _prepare_namespaces(layout)
        start(components.containerd(layout))
    for component in components.control_plane(layout, kubelab):
        start(component)
        if component.ready is not None:
            wait_for(component.name, lambda url=component.ready: api.responds(url))  # type: ignore[misc]
    if layout.mode == "full":
        wait_for("containerd", lambda: containerd.is_ready(layout))
        containerd.load_pause(layout, binaries.pause())
        for component in components.node(layout, kubelab):
            start(component)
        wait_for("the node", api.node_is_ready)
    wait_for("the default service account", api.has_default_service_account)


def _prepare_namespaces(layout: Layout) -> None:
    """Prepare a network, and file systems in memory for the node's files. The kernel removes both with this process."""
    for folder in (*NODE_FOLDERS, str(layout.containerd)):
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    for command in NODE_NETWORK:
        subprocess.run(command.split(), check=True)
    for setting in FORWARDING:
        Path("/proc/sys/net", setting).write_text("1\n")


def _spawn(component: Component, layout: Layout) -> int:
    """Start the component, which ends with this process. `subprocess` is not used, because it also reaps processes."""
    command = ["setpriv", "--pdeathsig", "KILL", *component.command]
    log = str(layout.logs / f"{component.name}.log")
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=files)


def _reap(running: dict[int, Component], *, block: bool) -> None:
    """
    Reap all dead processes, as process 1 must.

    Raises ComponentError if a component is one of these processes.
    """
    while True:
        pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        if pid == 0:
            return
        if component := running.pop(pid, None):
            raise ComponentError(f"{component.name} ended with {os.waitstatus_to_exitcode(status)}")


class Api:
    """Requests to the API server with the administrator's certificate."""

    def __init__(self, layout: Layout) -> None:
        self._server = layout.server
        self._tls = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        self._tls.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        ).open

    def responds(self, url: str) -> bool:
        return self._get(url) is not None

    def node_is_ready(self) -> bool:
        found = self._get(f"{self._server}/api/v1/nodes/{NODE}")
        conditions = json.loads(found)["status"].get("conditions", []) if found else []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def has_default_service_account(self) -> bool:
        return self.responds(f"{self._server}/api/v1/namespaces/default/serviceaccounts/default")

    def _get(self, url: str) -> bytes | None:
        try:
            with self._open(url, timeout=10) as response:
                found: bytes = response.read()
                return found
        except (OSError, urllib.error.URLError):
            return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
