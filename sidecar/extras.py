"""Import modules that need packages which a Pod does not install."""

from importlib import import_module
from types import ModuleType

from sidecar.errors import ConfigurationError

HOW_TO_INSTALL = "Run `make tools` in a checkout of irsa-sidecar and use .venv/bin/irsa-sidecar, or the image for tools"
"""The instruction to install the extras. irsa-sidecar is not published on a package index."""

ONLY_FOR_TOOLS = ("sidecar.audit", "sidecar.local.page", "sidecar.policy", "sidecar.setup")
"""The packages of irsa-sidecar that the image for Pods omits (Dockerfile), because they need extras."""


def import_extra(module: str, command: str, extra: str) -> ModuleType:
    """
    Import a module for `command`.

    Raises ConfigurationError with the name of a missing or unusable package, or if the image for Pods omits the module.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name in ONLY_FOR_TOOLS:
            raise ConfigurationError(f"`{command}` is not in the image for Pods", fix=HOW_TO_INSTALL) from exc
        if exc.name is None or exc.name.partition(".")[0] == "sidecar":
            raise
        raise ConfigurationError(
            f"`{command}` needs the package {exc.name.partition('.')[0]}, of the extra {extra}", fix=HOW_TO_INSTALL
        ) from exc
    except ImportError as exc:  # for example, a compiled package for another Python or another C library
        package = (exc.name or "").partition(".")[0]
        if package in {"", "sidecar"}:
            raise
        raise ConfigurationError(
            f"`{command}` cannot use the installed package {package} ({exc.msg})", fix=HOW_TO_INSTALL
        ) from exc
