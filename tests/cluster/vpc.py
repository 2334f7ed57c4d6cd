"""
Provide the network outside an EC2 node: an address of the VPC, and the link-local addresses of each node.

The network is a separate network namespace, and the node is its router. The node forwards packets of Pods, as on EC2.
Every policy allows requests from the node, and requests from this network do not come from the node.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.cluster.cluster import Cluster
from tests.cluster.layout import IPV4, adding
from tests.support.processes import GUARD_SECONDS


class Beyond(NamedTuple):
    """Addresses of one family: in the VPC, of EC2's instance metadata service, and of the EKS Pod Identity agent."""

    address: str
    metadata: str
    pod_identity: str


BEYOND = {
    "IPv4": Beyond("10.201.0.1", "169.254.169.254", "169.254.170.23"),
    "IPv6": Beyond("fd00:10:201::1", "fd00:ec2::254", "fd00:ec2::23"),
}
CONTAINERS = "169.254.170.2"
"""The address of the ECS agent's credentials endpoint, which exists only in IPv4."""

GATEWAY = "fe80::1"
"""The node's IPv6 address in the VPC. With IPv6 the node does not respond for addresses of its other devices."""

PORTS = [53, 80, 443, 5432]
"""The ports of the listeners. All ports use TCP, and the first port also uses UDP."""

SERVER = """
import json, socket, socketserver, sys, threading
class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        pass
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"!", self.client_address)
socketserver.TCPServer.address_family = socket.AF_INET6  # UDPServer inherits this, and both also accept IPv4
ports = json.loads(sys.argv[1])
servers = [socketserver.TCPServer(("", port), Stream) for port in ports]
servers.append(socketserver.UDPServer(("", ports[0]), Datagram))
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("serving", flush=True)
"""


class Vpc:
    """A network outside the node. `inside` is the prefix of commands that run in that network."""

    def __init__(self, process: int) -> None:
        self.inside = ["nsenter", f"--net=/proc/{process}/ns/net", "--"]


@contextmanager
def new_vpc(node: Cluster) -> Iterator[Vpc]:
    command = [*node.inside(), "setpriv", "--pdeathsig", "KILL", "unshare", "--net"]
    command += [sys.executable, "-c", SERVER, json.dumps(PORTS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        with server.stdout:
            assert server.stdout.readline() == "serving\n"
        vpc = Vpc(server.pid)
        _connect(node.inside(), vpc.inside, server.pid)
        yield vpc
        _run(node.inside(), "ip link delete vpc")  # the kernel would delete the device with a delay
    finally:
        server.kill()
        server.wait(GUARD_SECONDS)


def _connect(node: list[str], inside: list[str], process: int) -> None:
    _run(node, f"ip link add vpc type veth peer name eth0 netns {process}")
    _run(node, "ip link set vpc up")
    _run(node, adding(f"{GATEWAY}/64", "vpc"))
    _run(inside, "ip link set eth0 up")
    for address in (CONTAINERS, *BEYOND["IPv4"], *BEYOND["IPv6"]):
        _run(inside, adding(address, "eth0"))
        _run(node, f"ip route add {address} dev vpc")
    _run(inside, f"ip -4 route add default via {IPV4.node} dev eth0 onlink src {BEYOND['IPv4'].address}")
    _run(inside, f"ip -6 route add default via {GATEWAY} dev eth0 src {BEYOND['IPv6'].address}")


def _run(network: list[str], command: str) -> None:
    subprocess.run([*network, *command.split()], check=True)
