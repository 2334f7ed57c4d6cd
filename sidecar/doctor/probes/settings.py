"""The settings, read as `run` reads them, as far as they can be."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from sidecar.config.settings import Config, read_role, read_roles, read_settings, role_defaults, unknown_variables
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.location import Side, side
from sidecar.errors import ConfigurationError
from sidecar.role import Role
from sidecar.sts.client import open_client
from sidecar.sts.request import endpoint_of, fallbacks_of
from sidecar.sts.settings import StsSettings, read_sts_settings
from sidecar.sts.warnings import outbound_warnings

_Value = TypeVar("_Value")


class Told(NamedTuple):
    """
    What can be used of them. `config` is None where one of ours cannot; `sts` where the settings give no STS.

    `urls` are STS's own and those of the regions to turn to.
    """

    facts: SettingsFacts
    config: Config | None
    roles: tuple[Role, ...]
    sts: StsSettings | None
    urls: tuple[str, ...] = ()


def look(environ: Mapping[str, str]) -> Told:
    """Raises nothing."""
    reading = _Reading()
    config, roles, sts = reading.settings(environ)
    first = sts and reading.attempt(partial(_usable_endpoint, sts))
    others = sts and reading.attempt(partial(fallbacks_of, sts))
    facts = SettingsFacts(
        roles=roles,
        region=sts.region if sts else None,
        sts_url=first,
        is_told=side(environ) is Side.SIDECAR,
        problems=tuple(reading.problems),
        unknown_variables=tuple(unknown_variables(environ)),
        doubts=tuple(outbound_warnings(sts)) if sts and first else (),
    )
    return Told(facts, config, roles, sts if first else None, (first, *(others or ())) if first else ())


class _Reading:
    """Goes on after a setting that cannot be used, and keeps what is said of it, once."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}

    def attempt(self, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except ConfigurationError as error:
            self.problems[str(error)] = None
            return None

    def settings(self, environ: Mapping[str, str]) -> tuple[Config | None, tuple[Role, ...], StsSettings | None]:
        """Where one of ours cannot be used, AWS's own may still say which role and which STS."""
        read = self.attempt(lambda: read_settings(environ, {}, allow_non_loopback=True))
        if read is None:
            role = self.attempt(lambda: read_role(environ, role_defaults(environ)))
            return None, (role,) if role else (), self.attempt(lambda: read_sts_settings(environ))
        config, defaults = read
        return config, self.attempt(lambda: read_roles(config, environ, defaults)) or (), config.sts


def _usable_endpoint(sts: StsSettings) -> str:
    """Where STS is, if its CA bundle and proxy can be used too. Raises ConfigurationError."""
    open_client(sts)
    return endpoint_of(sts)
