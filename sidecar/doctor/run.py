"""One examination: of whichever side this environment is, and the table of all checks."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sidecar.doctor import from_application as application_side
from sidecar.doctor import from_sidecar as sidecar_side
from sidecar.doctor.checks import (
    endpoint,
    environment,
    exchange,
    identity,
    issuer,
    metadata,
    pod,
    pod_container,
    sdks,
    settings,
    sts,
    token,
    trust,
)
from sidecar.doctor.finding import Check
from sidecar.doctor.location import Side, side
from sidecar.doctor.report import Report

GROUPS: Mapping[str, Sequence[Check[Any]]] = MappingProxyType(
    {
        "settings": settings.CHECKS,
        "token": token.CHECKS,
        "issuer": issuer.CHECKS,
        "sts": sts.CHECKS,
        "exchange": exchange.CHECKS,
        "trust": trust.CHECKS,
        "environment": environment.CHECKS,
        "endpoint": endpoint.CHECKS,
        "identity": identity.CHECKS,
        "sdks": sdks.CHECKS,
        "metadata": metadata.CHECKS,
        "pod": (*pod.CHECKS, *pod_container.CONTAINER_CHECKS),
    }
)
"""Every check there is, in the order of the flow; a Pod from outside last."""


async def examine(environ: Mapping[str, str], *, metadata_address: str | None, files: str | None = None) -> Report:
    """
    Look at everything that this environment tells of.

    `metadata_address` is the node's metadata service, None not to ask it; `files` is where to look for AWS SDKs,
    instead of in the whole container.
    """
    if side(environ) is Side.APPLICATION:
        return await application_side.examine(environ, metadata_address, files)
    return await sidecar_side.examine(environ, metadata_address)
