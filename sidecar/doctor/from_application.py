"""The application's side: what its SDK would take before the endpoint, and what it meets there."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import trio

from sidecar.doctor.checks import endpoint, environment, identity, metadata, sdks
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.environment import is_own_form
from sidecar.doctor.checks.identity import IdentityFacts
from sidecar.doctor.location import is_in_pod, side
from sidecar.doctor.probes import endpoint as gather_endpoint
from sidecar.doctor.probes import environment as gather_environment
from sidecar.doctor.probes import identity as gather_identity
from sidecar.doctor.probes import metadata as gather_metadata
from sidecar.doctor.probes import sdks as gather_sdks
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.doctor.probes.guard import FILE_SECONDS, LOOK_SECONDS, Looked, guarded, in_thread
from sidecar.doctor.report import Report, rows

WHOLE_CONTAINER = "/"

_OTHER_FORM = "credentials come in the form of EC2's metadata service, which asks for no secret"
_NO_FILES = "no files were named, and this is no Pod"
_HOW_FILES = "Name the container's root, or where the application is installed, with --files DIRECTORY"


async def examine(environ: Mapping[str, str], metadata_address: str | None, files: str | None) -> Report:
    """
    Look at what an application's SDK would meet. Every look is guarded (guard.py).

    `metadata_address` is the node's metadata service, None not to ask it; SDKs are looked for below `files`.
    """
    root = files or (WHOLE_CONTAINER if is_in_pod(environ) else None)
    looked: dict[str, Looked[Any]] = {
        "sdks": Looked(None, _NO_FILES),
        "metadata": Looked(None, "not checked, because of --no-imds"),
    }

    async def look(name: str, what: Callable[[], Awaitable[Any]], seconds: float = LOOK_SECONDS) -> None:
        looked[name] = await guarded(what, seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, "environment", in_thread(gather_environment.look, environ), FILE_SECONDS)
        nursery.start_soon(look, "endpoint", partial(_look_at_endpoint_and_caller, environ))
        if root is not None:
            nursery.start_soon(look, "sdks", partial(gather_sdks.find, root))
        if metadata_address is not None:
            nursery.start_soon(look, "metadata", partial(gather_metadata.look, metadata_address))
    served, who = looked["endpoint"].facts or (None, None)
    why = looked["endpoint"].why or _OTHER_FORM
    found = [
        *rows("environment", environment.CHECKS, *looked["environment"]),
        *rows("endpoint", endpoint.CHECKS, served, why),
        *rows("identity", identity.CHECKS, who, why),
        *rows("sdks", sdks.CHECKS, *looked["sdks"], how=_HOW_FILES),
        *rows("metadata", metadata.CHECKS, *looked["metadata"]),
    ]
    return Report(side(environ), tuple(found), {})


async def _look_at_endpoint_and_caller(environ: Mapping[str, str]) -> tuple[EndpointFacts | None, IdentityFacts]:
    served, keys = await _look_at_endpoint(environ)
    return served, await gather_identity.look(environ, keys, "that the endpoint serves", None)


async def _look_at_endpoint(environ: Mapping[str, str]) -> tuple[EndpointFacts | None, Keys | None]:
    if is_own_form(environ) and not environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return None, None
    return await gather_endpoint.look(_endpoint(environ))


def _endpoint(environ: Mapping[str, str]) -> Endpoint:
    return Endpoint(
        setting="AWS_CONTAINER_CREDENTIALS_FULL_URI",
        url=environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""),
        secret_file=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") or None,
        secret_text=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") or None,
        is_expected=True,
        role_arn=None,
    )
