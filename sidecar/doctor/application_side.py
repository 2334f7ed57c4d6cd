"""The application's side: what its SDK would take before the endpoint, and what it meets there."""

from collections.abc import Mapping

import trio

from sidecar.doctor import endpoint, environment, identity, metadata, sdks
from sidecar.doctor.endpoint import EndpointFacts
from sidecar.doctor.environment import is_own_form
from sidecar.doctor.gather import endpoint as gather_endpoint
from sidecar.doctor.gather import environment as gather_environment
from sidecar.doctor.gather import identity as gather_identity
from sidecar.doctor.gather import metadata as gather_metadata
from sidecar.doctor.gather import sdks as gather_sdks
from sidecar.doctor.gather.endpoint import Endpoint, Keys
from sidecar.doctor.place import is_in_pod, side
from sidecar.doctor.report import Report, rows

WHOLE_CONTAINER = "/"

_OTHER_FORM = "credentials come in the form of EC2's metadata service, which asks for no secret"
_NO_FILES = "no files were named, and this is no Pod"
_HOW_FILES = "Name the container's root, or where the application is installed, with --files DIRECTORY"


async def examine(environ: Mapping[str, str], metadata_address: str | None, files: str | None) -> Report:
    """`metadata_address` is the node's metadata service, None not to ask it; SDKs are looked for below `files`."""
    root = files or (WHOLE_CONTAINER if is_in_pod(environ) else None)
    leak: list[metadata.MetadataFacts] = []
    found_sdks: list[sdks.SdkFacts] = []

    async def find_sdks(root: str) -> None:
        found_sdks.append(await trio.to_thread.run_sync(gather_sdks.look, root, abandon_on_cancel=True))

    async def ask_metadata(address: str) -> None:
        leak.append(await gather_metadata.look(address))

    async with trio.open_nursery() as nursery:
        if root is not None:
            nursery.start_soon(find_sdks, root)
        if metadata_address is not None:
            nursery.start_soon(ask_metadata, metadata_address)
        served, keys = await _look_at_endpoint(environ)
        who = await gather_identity.look(environ, keys, "that the endpoint serves", None)
    found = [
        *rows("environment", environment.CHECKS, gather_environment.look(environ)),
        *rows("endpoint", endpoint.CHECKS, served, why=_OTHER_FORM),
        *rows("identity", identity.CHECKS, who),
        *rows("sdks", sdks.CHECKS, found_sdks[0] if found_sdks else None, why=_NO_FILES, how=_HOW_FILES),
        *rows("metadata", metadata.CHECKS, leak[0] if leak else None, why="not asked, as --no-imds says"),
    ]
    return Report(side(environ), tuple(found), {})


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
