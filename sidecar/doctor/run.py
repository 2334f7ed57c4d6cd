"""Examine the side that this environment belongs to, and list all checks."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sidecar.doctor import from_application, from_sidecar
from sidecar.doctor.checks import (
    caller,
    endpoint,
    environment,
    exchange,
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
        "identity": caller.CHECKS,
        "sdks": sdks.CHECKS,
        "metadata": metadata.CHECKS,
        "pod": (*pod.CHECKS, *pod_container.CONTAINER_CHECKS),
    }
)
"""All checks by group, in the order of the data flow. The checks of a Pod from outside come last."""


async def examine(environ: Mapping[str, str], *, metadata_address: str | None, files: str | None = None) -> Report:
    """
    Run all checks that apply to this environment.

    `metadata_address` is the URL of the node's metadata service, or None to skip that check. `files` is the directory
    to search for AWS SDKs. None means the whole container if doctor runs in a Pod, and otherwise no search.
    """
    if side(environ) is Side.APPLICATION:
        return await from_application.examine(environ, metadata_address, files)
    return await from_sidecar.examine(environ, metadata_address)
