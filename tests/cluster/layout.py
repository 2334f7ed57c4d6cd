"""Define the paths of one cluster's files, and its fixed names and addresses."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["control", "full"]
"""
The kind of cluster.

`control` has etcd, the API server, the controllers and the scheduler on loopback. `full` adds a node that runs Pods.
"""

ISSUER = "https://oidc.irsa-sidecar.test/id/CLUSTER"
"""The issuer of service account tokens. As in EKS, the API server does not publish the issuer's keys."""

NODE = "node"


class Addresses(NamedTuple):
    """
    The cluster's addresses of one family, which exist only in its network namespace.

    A test may run servers in the node's network, and Pods connect to these servers at `node`. `apiserver` is the
    address of the API server's Service.
    """

    node: str
    apiserver: str
    services: str
    pods: str


IPV4 = Addresses("10.200.0.1", "10.96.0.1", "10.96.0.0/16", "10.244.0.0/24")
IPV6 = Addresses("fd00:10:200::1", "fd00:10:96::1", "fd00:10:96::/112", "fd00:10:244::/64")
FAMILIES = {"IPv4": IPV4, "IPv6": IPV6}
"""The address families. Every Pod has an address of each family, in this order."""


def adding(address: str, device: str) -> str:
    """Return the command that adds the address without IPv6's duplicate detection, which takes a second."""
    return f"ip address add {address} dev {device}" + (" nodad" if ":" in address else "")


def of_each(name: Literal["node", "services", "pods"]) -> str:
    """Join the values of both families in the form that Kubernetes accepts."""
    return ",".join(getattr(family, name) for family in FAMILIES.values())


PAUSE_IMAGE = "irsa-sidecar.test/pause:1"
CGROUP = "irsa-sidecar-test-{}"


@dataclass(frozen=True)
class Ports:
    """The ports of the cluster. In control mode they are ports of the machine, so free ports are chosen."""

    apiserver: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380


@dataclass(frozen=True)
class Layout:
    """The paths of a cluster whose files are all in `state`."""

    state: Path
    mode: Mode
    ports: Ports

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def ready(self) -> Path:
        """Return the file that exists once all components run."""
        return self.state / "ready"

    @property
    def containerd(self) -> Path:
        """Return the folder of images and containers."""
        return self.state / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports.apiserver}"

    def kubeconfig(self, client: str = "admin") -> Path:
        return self.state / f"{client}.kubeconfig"

    def save(self) -> None:
        (self.state / "layout.json").write_text(json.dumps({"mode": self.mode, "ports": asdict(self.ports)}))

    @classmethod
    def load(cls, state: Path) -> "Layout":
        document = json.loads((state / "layout.json").read_text())
        return cls(state, document["mode"], Ports(**document["ports"]))
