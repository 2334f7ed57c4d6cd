"""
Listen in the cluster's network namespace from the process of the tests.

A socket always belongs to the network namespace in which it was created. A short program in the cluster's
namespace creates the socket, and sends its descriptor.
"""

import socket
import subprocess
import sys

from tests.cluster.cluster import Cluster

PROGRAM = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"1"], [listener.fileno()])
"""


def listener_inside(cluster: Cluster) -> socket.socket:
    """Return a socket that listens on a free loopback port of the cluster's network."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        command = [*cluster.inside(), sys.executable, "-c", PROGRAM, str(theirs.fileno())]
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True)
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)
