"""Where one cluster keeps its files, and its fixed names and addresses."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["control", "full"]
"""`control`: etcd, API server, controllers and scheduler, on loopback. `full`: a node that runs Pods, too."""

ISSUER = "https://oidc.irsa-sidecar.test/id/CLUSTER"
"""Who signs service account tokens. As at EKS, its keys are published elsewhere than at the API server."""

NODE = "node"


class Addresses(NamedTuple):
    """
    What the cluster has of one family, in its network namespace only.

    At `node` Pods reach what a test runs beside the node, and `apiserver` is of the Service that leads there.
    """

    node: str
    apiserver: str
    services: str
    pods: str


IPV4 = Addresses("10.200.0.1", "10.96.0.1", "10.96.0.0/16", "10.244.0.0/24")
IPV6 = Addresses("fd00:10:200::1", "fd00:10:96::1", "fd00:10:96::/112", "fd00:10:244::/64")
FAMILIES = {"IPv4": IPV4, "IPv6": IPV6}
"""Every Pod has an address of both, that of the first before the other."""


def adding(address: str, device: str) -> str:
    """The command for it. Nobody is asked whether he has that address of IPv6, which would take a second."""
    return f"ip address add {address} dev {device}" + (" nodad" if ":" in address else "")


def of_each(name: Literal["node", "services", "pods"]) -> str:
    """Those of both families, as Kubernetes takes them."""
    return ",".join(getattr(family, name) for family in FAMILIES.values())


PAUSE_IMAGE = "irsa-sidecar.test/pause:1"
CGROUP = "irsa-sidecar-test-{}"


@dataclass(frozen=True)
class Ports:
    """In control mode they are the machine's own, so free ones are taken."""

    apiserver: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380


@dataclass(frozen=True)
class Layout:
    """A cluster whose files are all in `state`."""

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
        """A file that is there once everything runs."""
        return self.state / "ready"

    @property
    def containerd(self) -> Path:
        """Images and containers."""
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
