"""
Check the Host header of a request. Pure.

Rule: only the listener's own names are accepted. An attacker may make any other name resolve to loopback (DNS
rebinding).
"""

from collections.abc import Iterable
from typing import NamedTuple

from sidecar.addresses import WILDCARDS, is_address

LOOPBACK_NAMES = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
"""The names by which clients in the Pod call a listener."""


class Hosts(NamedTuple):
    """
    The hosts that a listener accepts: lower-case names without port, IPv6 in brackets.

    With `any_address`, every IP address is accepted too, because DNS rebinding needs a name.
    """

    names: frozenset[bytes] = LOOPBACK_NAMES
    any_address: bool = False


LOOPBACK = Hosts()
"""The hosts of a listener on loopback."""


def hosts_of(addresses: Iterable[str]) -> Hosts:
    """Return the hosts of listeners on these IP addresses. A listener on all interfaces accepts every address."""
    bound = set(addresses)
    names = {f"[{address}]".encode() if ":" in address else address.encode() for address in bound}
    return Hosts(LOOPBACK_NAMES | names, any_address=bool(bound & WILDCARDS))


def is_accepted(header: bytes | None, hosts: Hosts) -> bool:
    """
    Return whether the Host header names this listener, with any port or none (the CRT's clients send none).

    Only HTTP/1.0 may lack the header, and no browser speaks HTTP/1.0.
    """
    if header is None:
        return True
    host = header.lower()
    name, _, port = host.rpartition(b":")
    if not port.isdigit():
        name = host
    return name in hosts.names or (hosts.any_address and is_address(name.decode("latin-1")))
