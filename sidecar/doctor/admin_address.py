"""Find the admin address of a sidecar in its container's document. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.addresses import Address, parse_address
from sidecar.doctor.checks.environment import VALUE_NOT_SHOWN
from sidecar.doctor.checks.pod import environ_of
from sidecar.errors import ConfigurationError
from sidecar.injection.names import ADMIN_PORT, CONTAINER

VARIABLE, FLAG = "IRSA_SIDECAR_ADMIN_LISTEN", "--admin-listen"

OFF = "off"


class AdminAddress(NamedTuple):
    """The address that the daemon listens on, or the reason why it is unknown or off."""

    address: Address | None
    problem: str = ""


def admin_address(container: Mapping[str, Any]) -> AdminAddress:
    """
    Return the admin address of the sidecar in this container.

    A flag has priority over the variable. If the document does not show the value, the container's named port counts.
    """
    setting, text = _configured(container)
    if text is None:
        return AdminAddress(("0.0.0.0", _named_port(container)))  # noqa: S104  the daemon's default
    if text == OFF:
        return AdminAddress(None, f"its admin address is off ({setting})")
    try:
        address = parse_address(setting, text[:100])
    except ConfigurationError as error:
        return AdminAddress(None, error.problem)
    if address[1] == 0:
        return AdminAddress(None, f"{setting} is {text!r}, and the kernel chooses the port")
    return AdminAddress(address)


def _configured(container: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the setting and its value, or None if the value is the default or is not in the document."""
    if (flag := flag_value(container)) is not None:
        return FLAG, flag
    value = environ_of(container).get(VARIABLE)
    return VARIABLE, None if value in {None, "", VALUE_NOT_SHOWN} else value


def flag_value(container: Mapping[str, Any]) -> str | None:
    """Return the last value of the flag in the container's command and arguments, or None."""
    words = [str(word) for key in ("command", "args") for word in _list(container.get(key))]
    for at in range(len(words) - 1, -1, -1):
        name, equals, value = words[at].partition("=")
        if name == FLAG and (equals or at + 1 < len(words)):
            return value if equals else words[at + 1]
    return None


def _named_port(container: Mapping[str, Any]) -> int:
    ports = (port for port in _list(container.get("ports")) if isinstance(port, dict) and port.get("name") == CONTAINER)
    found = next((port.get("containerPort") for port in ports), None)
    return found if isinstance(found, int) and 0 < found < 65_536 else ADMIN_PORT


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
