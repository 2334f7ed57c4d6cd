"""
What is beyond a node of EC2: an address of the VPC, and those that have the same meaning at every node.

A network namespace of its own, with the node as the router between, so that what Pods ask of it is forwarded, as there,
and what asks Pods from there is not the node, which every policy lets in.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.cluster import Cluster
from tests.cluster.layout import NODE_ADDRESS
from tests.processes import GUARD_SECONDS

ADDRESS = "10.201.0.1"
METADATA, CONTAINERS, POD_IDENTITY = "169.254.169.254", "169.254.170.2", "169.254.170.23"
"""EC2's instance metadata service, the credentials of ECS's agent, and those of EKS's."""

PORTS = [53, 80, 443, 5432]
"""Where it answers, by TCP; the first by UDP, too."""

SERVER = """
import json, socketserver, sys, threading
class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        pass
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"!", self.client_address)
ports = json.loads(sys.argv[1])
servers = [socketserver.TCPServer(("", port), Stream) for port in ports]
servers.append(socketserver.UDPServer(("", ports[0]), Datagram))
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("serving", flush=True)
"""


class Vpc:
    """`inside` goes before a command that shall run there."""

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
        made = Vpc(server.pid)
        _connect(node.inside(), made.inside, server.pid)
        yield made
        _run(node.inside(), "ip link delete vpc")  # at once, where the end of the network would do it some time later
    finally:
        server.kill()
        server.wait(GUARD_SECONDS)


def _connect(node: list[str], there: list[str], process: int) -> None:
    addresses = [ADDRESS, METADATA, CONTAINERS, POD_IDENTITY]
    _run(node, f"ip link add vpc type veth peer name eth0 netns {process}")
    _run(node, "ip link set vpc up")
    _run(there, "ip link set eth0 up")
    for address in addresses:
        _run(there, f"ip address add {address}/32 dev eth0")
        _run(node, f"ip route add {address} dev vpc")
    _run(there, f"ip route add default via {NODE_ADDRESS} dev eth0 onlink src {ADDRESS}")


def _run(network: list[str], command: str) -> None:
    subprocess.run([*network, *command.split()], check=True)
