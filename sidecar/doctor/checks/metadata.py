"""Check that this container cannot reach the node's metadata service, which serves the node's role. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, ok, warning


class MetadataFacts(NamedTuple):
    """
    The versions of the metadata service that respond at `address`. Only version 2 requires a session token.

    `role` is the node's role. It is "" if the node has no role, and None if the role is not known.
    """

    address: str
    has_v2: bool = False
    has_v1: bool = False
    role: str | None = None


def _reach(facts: MetadataFacts) -> Finding:
    if not (facts.has_v1 or facts.has_v2):
        return ok(f"{facts.address} does not respond: the node's role cannot be used")
    if facts.role == "":
        return ok(f"{facts.address} responds, but the node has no role")
    role = f"role {facts.role}" if facts.role else "role"
    if facts.has_v2:
        return warning(
            f"any process here can use the node's {role}: the metadata service at {facts.address} responds",
            "Set the node's HttpPutResponseHopLimit to 1 and HttpTokens to required, or forbid egress to it with a "
            "NetworkPolicy",
        )
    return warning(
        f"any process here can use the node's {role}: the metadata service at {facts.address} responds to version 1, "
        "which a hop limit does not restrict",
        "Set the node's HttpTokens to required, or forbid egress to it with a NetworkPolicy",
    )


CHECKS: tuple[Check[MetadataFacts], ...] = (Check("reach", "is the node's role unreachable", _reach),)
