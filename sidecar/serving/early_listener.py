"""
Open the listener of `run`, and create its secret, before the process imports anything else.

The port is then open in 60 % of the time, because an import of `typing` or `socket` takes longer than all steps here.
`make bench` measures this time ("listens after").

Rule: this module knows only the usual case, one role whose settings are variables. In any other case it does nothing,
and after an error it closes what it opened. `commands/run.py` then opens the listener, and reports the error.
"""

from collections.abc import Mapping

from sidecar.addresses import is_loopback, parse_address
from sidecar.errors import ConfigurationError
from sidecar.files import SECRET_MODE
from sidecar.serving.authorization import TOKEN_MODES, Secret, start_secrets
from sidecar.serving.listen import DEFAULT_ADDRESS, Listener, bind, start_listening
from sidecar.startup.hardening import harden

SETTING = "IRSA_SIDECAR_LISTEN"


class EarlyListener:
    """The sockets that listen, and the secrets by path."""

    __slots__ = ("secrets", "sockets")  # not a NamedTuple, because `typing` is imported after the daemon listens

    def __init__(self, sockets: list[Listener], secrets: dict[str, Secret]) -> None:
        self.sockets = sockets
        self.secrets = secrets


_opened: list[EarlyListener] = []


def open_early(environ: Mapping[str, str]) -> None:
    """Open the listener that `take` returns, if the settings are those of the usual case."""
    path = environ.get("IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE") or ""
    mode = environ.get("IRSA_SIDECAR_AUTHORIZATION_MODE") or f"{SECRET_MODE:04o}"
    if environ.get("IRSA_SIDECAR_CONFIG") or "{" in path or mode not in TOKEN_MODES:
        return
    sockets: list[Listener] = []
    try:
        address = parse_address(SETTING, environ.get(SETTING) or DEFAULT_ADDRESS)
        if not is_loopback(address[0]):
            return
        sockets = bind(SETTING, address)
        harden()  # before the secret is in memory; `run` logs a failure
        # The secret comes first, because a client that finds the port open also needs the file with the secret.
        secrets = start_secrets([path] if path else [], int(mode, 8))
        start_listening(SETTING, sockets)
    except (ConfigurationError, OSError, ValueError):
        for each in sockets:
            each.close()
        return
    _opened.append(EarlyListener(sockets, secrets))


def take() -> EarlyListener | None:
    """Return the listener of `open_early`, once."""
    return _opened.pop() if _opened else None
