"""Read the state of the daemon on this machine, which is usually the Pod's own."""

from collections.abc import Mapping

from sidecar.addresses import Address, format_address, parse_address
from sidecar.client.request import get, reachable
from sidecar.config.settings import PREFIX
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.serving.status import DaemonStatus
from sidecar.status.read import UnreadableError, read_status

DEADLINE_SECONDS = 5.0
"""Deadline for the response, which takes milliseconds."""

_WHERE = "Run the command in the sidecar's container, or name Pods with --pod, --namespace or --all"


def admin_address_here(flag: str | None, environ: Mapping[str, str]) -> Address:
    """
    Return the admin address in the flag, or else in the variable, or else the default.

    Raises ConfigurationError if the address is off or invalid.
    """
    name = f"{PREFIX}ADMIN_LISTEN"
    setting, text = ("--admin-listen", flag) if flag else (name, environ.get(name) or ":4773")
    if text == "off":
        raise ConfigurationError(
            f"{setting} is off, and the status needs the admin address",
            fix="Set it to the same address for the daemon and this command",
            setting=setting,
        )
    return reachable(parse_address(setting, text))


def read_here(address: Address) -> DaemonStatus:
    """
    Return the state of the daemon at this address.

    Raises SidecarError if no daemon responds, or if it has no status.
    """
    place = format_address(*address)
    try:
        response = get(address, "/status", DEADLINE_SECONDS)
    except OSError as error:
        raise SidecarError(f"No daemon responds on {place} ({error})", fix=_WHERE) from error
    if response.status == 404:
        raise SidecarError(f"The daemon on {place} has no /status", fix="Update the image of the sidecar")
    try:
        return read_status(response.body)
    except UnreadableError as error:
        raise SidecarError(f"The program on {place} is not a daemon with a status: {error}", fix=_WHERE) from error
