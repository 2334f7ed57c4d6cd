"""One examination: of whichever side this environment is, and the table of all checks."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sidecar.doctor import (
    application_side,
    endpoint,
    environment,
    exchange,
    identity,
    issuer,
    metadata,
    pod,
    sdks,
    settings,
    sidecar_side,
    sts,
    token,
    trust,
)
from sidecar.doctor.finding import Check
from sidecar.doctor.gather.metadata import ADDRESS
from sidecar.doctor.place import Side, side
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
        "pod": (*pod.CHECKS, *pod.CONTAINER_CHECKS),
    }
)
"""Every check there is, in the order of the flow; a Pod from outside last."""


async def examine(environ: Mapping[str, str], *, asks_metadata: bool = True, files: str | None = None) -> Report:
    """
    Look at everything that this environment tells of.

    `asks_metadata` is whether the node's metadata service may be asked; it is where AWS's own variable says. `files` is
    where to look for AWS SDKs, instead of in the whole container.
    """
    address = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ADDRESS
    metadata_address = address if asks_metadata else None
    if side(environ) is Side.APPLICATION:
        return await application_side.examine(environ, metadata_address, files)
    return await sidecar_side.examine(environ, metadata_address)
