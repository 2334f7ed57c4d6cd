"""Whether the node's metadata service, and with it the node's role, can be reached from here. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, ok, warning


class MetadataFacts(NamedTuple):
    """
    What answered at `address`: version 2, which wants a session token, and version 1, which wants none.

    `role` is the node's, "" if it has none, None if that was not told.
    """

    address: str
    answers_v2: bool = False
    answers_v1: bool = False
    role: str | None = None


def _shut(facts: MetadataFacts) -> Finding:
    if not (facts.answers_v1 or facts.answers_v2):
        return ok(f"{facts.address} does not answer: the node's role is out of reach")
    if facts.role == "":
        return ok(f"{facts.address} answers, but the node has no role")
    whose = f"role {facts.role}" if facts.role else "role"
    if facts.answers_v2:
        return warning(
            f"the node's {whose} can be had by any process here: the metadata service at {facts.address} answers",
            "Set the node's HttpPutResponseHopLimit to 1 and HttpTokens to required, or forbid egress to it by a "
            "NetworkPolicy",
        )
    return warning(
        f"the node's {whose} can be had by any process here: the metadata service at {facts.address} answers "
        "version 1, which no hop limit holds back",
        "Set the node's HttpTokens to required, or forbid egress to it by a NetworkPolicy",
    )


CHECKS: tuple[Check[MetadataFacts], ...] = (Check("reach", "is the node's role out of reach", _shut),)
