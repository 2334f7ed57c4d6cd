"""Examine an application's container: its environment, the endpoint, its SDKs and the metadata service."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import trio

from sidecar.doctor.checks import caller, endpoint, environment, metadata, sdks
from sidecar.doctor.checks.caller import CallerFacts
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.environment import uses_imds_form
from sidecar.doctor.finding import skipped
from sidecar.doctor.location import is_in_pod, side
from sidecar.doctor.probes import caller as caller_probe
from sidecar.doctor.probes import endpoint as endpoint_probe
from sidecar.doctor.probes import environment as environment_probe
from sidecar.doctor.probes import metadata as metadata_probe
from sidecar.doctor.probes import sdks as sdks_probe
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.doctor.probes.guard import FILE_SECONDS, PROBE_SECONDS, ProbeResult, guarded, in_thread
from sidecar.doctor.report import Report, rows

WHOLE_CONTAINER = "/"

_IMDS_FORM = "the sidecar serves the API of EC2's metadata service, which requires no secret"
_NO_FILES = "--files is not set, and this is not a Pod"
_NAME_FILES = "Name the container's root, or the directory of the application, with --files DIRECTORY"


async def examine(environ: Mapping[str, str], metadata_address: str | None, files: str | None) -> Report:
    """
    Run the checks for an application's environment.

    `metadata_address` is the URL of the node's metadata service, or None to skip that check. `files` is the directory
    to search for AWS SDKs. None means the whole container if doctor runs in a Pod, and otherwise no search.
    """
    results = await _collect(environ, metadata_address, files or (WHOLE_CONTAINER if is_in_pod(environ) else None))
    endpoint_facts, caller_facts = results["endpoint"].facts or (None, None)
    reason = results["endpoint"].reason or _IMDS_FORM
    found = [
        *rows("environment", environment.CHECKS, *results["environment"]),
        *rows("endpoint", endpoint.CHECKS, endpoint_facts, reason),
        *rows("identity", caller.CHECKS, caller_facts, reason),
        *rows("sdks", sdks.CHECKS, results["sdks"].facts, skipped(results["sdks"].reason, _NAME_FILES)),
        *rows("metadata", metadata.CHECKS, *results["metadata"]),
    ]
    return Report(side(environ), tuple(found), {})


async def _collect(
    environ: Mapping[str, str], metadata_address: str | None, root: str | None
) -> dict[str, ProbeResult[Any]]:
    """Run all probes concurrently, each with a guard (guard.py), and return their results by name."""
    results: dict[str, ProbeResult[Any]] = {
        "sdks": ProbeResult(None, _NO_FILES),
        "metadata": ProbeResult(None, "not checked because of --no-imds"),
    }

    async def run(name: str, probe: Callable[[], Awaitable[Any]], seconds: float = PROBE_SECONDS) -> None:
        results[name] = await guarded(probe, seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "environment", in_thread(environment_probe.collect, environ), FILE_SECONDS)
        nursery.start_soon(run, "endpoint", partial(_collect_endpoint_and_caller, environ))
        if root is not None:
            nursery.start_soon(run, "sdks", partial(sdks_probe.collect, root))
        if metadata_address is not None:
            nursery.start_soon(run, "metadata", partial(metadata_probe.collect, metadata_address))
    return results


async def _collect_endpoint_and_caller(environ: Mapping[str, str]) -> tuple[EndpointFacts | None, CallerFacts]:
    facts, keys = await _collect_endpoint(environ)
    return facts, await caller_probe.collect(environ, keys, "that the endpoint serves", None)


async def _collect_endpoint(environ: Mapping[str, str]) -> tuple[EndpointFacts | None, Keys | None]:
    if uses_imds_form(environ) and not environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return None, None
    return await endpoint_probe.collect(_endpoint(environ))


def _endpoint(environ: Mapping[str, str]) -> Endpoint:
    return Endpoint(
        setting="AWS_CONTAINER_CREDENTIALS_FULL_URI",
        url=environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""),
        secret_file=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") or None,
        secret_text=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") or None,
        is_expected=True,
        role_arn=None,
    )
