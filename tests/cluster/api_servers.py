"""
Start two API servers with one etcd behind a load balancer, and restart them with other signing keys.

The servers listen on loopback and need no root. Only `kube-apiserver` and `etcd` run, so no controller changes objects.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.subjects import free_port
from tests.cluster import binaries, components
from tests.cluster.certificates import Certificates
from tests.cluster.components import Component
from tests.cluster.layout import Layout, Ports
from tests.cluster.supervisor import Api
from tests.cluster.waiting import wait_until
from tests.support.processes import GUARD_SECONDS

ADVERTISED = ("192.0.2.1", "192.0.2.2")
"""The addresses of the servers in the EndpointSlice, from a network for documentation. Nobody connects to them."""

START_SECONDS = 180.0


class Keys(NamedTuple):
    """The names of the key that signs, and of all keys that the server accepts and publishes."""

    signing: str
    accepted: tuple[str, ...]


class ApiServers:
    """Two API servers, by their index, and the kubeconfig of an administrator that connects to the load balancer."""

    def __init__(self, folder: Path, issuer: str) -> None:
        self._issuer = issuer
        self._kubelab = binaries.kubelab()
        ports = [Ports(free_port(), free_port(), free_port()) for _ in ADVERTISED]
        shared = {"etcd": ports[0].etcd, "etcd_peer": ports[0].etcd_peer}
        self.layouts = [Layout(folder, "control", Ports(apiserver=each.apiserver, **shared)) for each in ports]
        self.layouts[0].logs.mkdir(parents=True)
        self.certificates = Certificates(self.layouts[0].pki)
        self.certificates.make_server("apiserver", ["localhost"], ["127.0.0.1"])
        for name in ("admin", "apiserver-to-kubelet"):
            self.certificates.make_client(name, name, "system:masters")
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_etcd(self) -> None:
        self._start("etcd", components.etcd(self.layouts[0], self._kubelab), self.layouts[0])

    def restart(self, index: int, keys: Keys) -> None:
        """Start the server with these keys. If it is running, stop it first, as kubelet does for a static Pod."""
        name, layout, pki = f"kube-apiserver-{index}", self.layouts[index], self.layouts[index].pki
        self._stop(name)
        component = components.api_server(
            layout,
            self._kubelab,
            advertise_address=ADVERTISED[index],
            endpoint_reconciler_type="lease",
            service_account_issuer=self._issuer,
            service_account_jwks_uri=f"{self._issuer}/openid/v1/jwks",
            service_account_key_file=[pki / f"{key}.pub" for key in keys.accepted],
            service_account_signing_key_file=pki / f"{keys.signing}.key",
        )
        self._start(name, component, layout)

    def kubectl(self, *arguments: str, stdin: str | None = None, server: int | None = None, check: bool = True) -> Any:
        """Run kubectl against the load balancer, or against one server."""
        address = [] if server is None else [f"--server={self.layouts[server].server}"]
        command = [str(self._kubelab), "kubectl", f"--kubeconfig={self.layouts[0].kubeconfig()}", *address, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    def has_every_address(self) -> bool:
        """Return whether both servers have written their addresses into the EndpointSlice."""
        found = self.kubectl("get", "endpointslice", "kubernetes", "--output=json", check=False)
        endpoints = json.loads(found.stdout)["endpoints"] if found.returncode == 0 else []
        return {address for each in endpoints or () for address in each["addresses"]} == {*ADVERTISED}

    def stop(self) -> None:
        for name in [*self._running]:
            self._stop(name)

    def _start(self, name: str, component: Component, layout: Layout) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", *component.command]
        with (layout.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[name] = process
        api = Api(layout)

        def is_ready() -> bool:
            assert process.poll() is None, f"{name} ended, see {layout.logs}"
            return api.responds(str(component.ready))

        wait_until(is_ready, f"the start of {name}", seconds=START_SECONDS)

    def _stop(self, name: str) -> None:
        if (process := self._running.pop(name, None)) is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(GUARD_SECONDS)


@contextmanager
def two_api_servers(folder: Path, issuer: str, keys: Keys) -> Iterator[ApiServers]:
    """Run both API servers with these keys until the block ends. The keys are created first."""
    servers = ApiServers(folder, issuer)
    for name in keys.accepted:
        servers.certificates.make_token_key(name)
    with ExitStack() as stack:
        stack.callback(servers.stop)
        servers.start_etcd()
        for index in range(len(ADVERTISED)):
            servers.restart(index, keys)
        balancer = stack.enter_context(load_balancer([layout.ports.apiserver for layout in servers.layouts]))
        servers.certificates.write_kubeconfig(servers.layouts[0].kubeconfig(), "admin", balancer)
        wait_until(servers.has_every_address, "the addresses of the API servers", details=lambda: os.fspath(folder))
        yield servers


@contextmanager
def load_balancer(ports: list[int]) -> Iterator[str]:
    """Run a TCP load balancer, which gives each new connection to the next of these ports, and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    turns = itertools.cycle(ports)
    connections: list[_Connection] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connections.append(_Connection(listener.accept()[0], next(turns)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for connection in connections:
            connection.close()


class _Connection:
    """A connection of a client, which is passed to the server on this port."""

    def __init__(self, client: socket.socket, port: int) -> None:
        self._ends = (client, socket.create_connection(("127.0.0.1", port)))
        pairs = (self._ends, self._ends[::-1])
        self._threads = [threading.Thread(target=_copy, args=pair, daemon=True) for pair in pairs]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
