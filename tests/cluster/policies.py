"""Enforce network policies with kube-router's controller, because the Pods' bridge does not enforce them."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.cluster.layout import NODE, of_each
from tests.cluster.namespace import Namespace
from tests.support.prerequisites import require
from tests.support.processes import GUARD_SECONDS


class Place(NamedTuple):
    """The address of a listener. An IPv6 address has no brackets."""

    address: str
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"


TRIAL = """
import concurrent.futures, json, socket, sys
def responds(place):
    address, port, protocol = place
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as tried:
        tried.settimeout(5)
        try:
            tried.connect((address, port))
            if protocol == "udp":
                tried.send(b"?")
                tried.recv(1)
        except OSError:
            return False
        return True
places = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(places)) as at_once:
    print(json.dumps([name for name, found in zip(places, at_once.map(responds, places.values())) if found]))
"""
"""The source of a program that prints the names of the listeners that respond."""


@contextmanager
def policies_in_force(node: Cluster) -> Iterator[None]:
    """
    Enforce policies until the block ends. A rule for a Pod takes effect after a moment, so tests wait for the rule.

    Each policy allows traffic from the node itself, because of the kubelet's probes.
    """
    require({"ipset": "ipset"}, "The controller of network policies")
    assert node.layout is not None
    flags = [f"--kubeconfig={node.kubeconfig}", f"--node={NODE}", f"--services={of_each('services')}"]
    command = [*node.inside(), "setpriv", "--pdeathsig", "TERM", str(binaries.policies()), *flags]
    log = node.layout.logs / "policies.log"
    with log.open("a") as output:
        controller = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
        assert controller.poll() is None, log.read_text()
    finally:
        controller.terminate()
        controller.wait(GUARD_SECONDS)


def reached_by(namespace: Namespace, pod: str, container: str, places: Mapping[str, Place]) -> set[str]:
    """Return the names of the listeners that respond to this Pod."""
    program = ["python", "-c", TRIAL, json.dumps(places)]
    return set(json.loads(namespace.kubectl("exec", pod, f"--container={container}", "--", *program).stdout))


def reached_from(network: Sequence[str], places: Mapping[str, Place]) -> set[str]:
    """Return the names of the listeners that respond to a client in the network of the command prefix `network`."""
    program = [*network, sys.executable, "-c", TRIAL, json.dumps(places)]
    return set(json.loads(subprocess.check_output(program)))
