"""Read the settings as `run` does, but continue after an invalid setting."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from sidecar.config.settings import Config, read_role, read_roles, read_settings, role_defaults, unknown_variables
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.location import Side, side
from sidecar.errors import ConfigurationError, Explanation
from sidecar.role import Role
from sidecar.sts.client import open_client
from sidecar.sts.request import endpoint_of, fallbacks_of
from sidecar.sts.settings import StsSettings, read_sts_settings
from sidecar.sts.warnings import outbound_warnings

_Value = TypeVar("_Value")


class SettingsResult(NamedTuple):
    """
    The valid settings. `config` is None if `read_settings` rejects a setting. `sts` is None if no valid STS is set.

    `urls` are the URLs of the active STS and of the fallback regions.
    """

    facts: SettingsFacts
    config: Config | None
    roles: tuple[Role, ...]
    sts: StsSettings | None
    urls: tuple[str, ...] = ()


def collect(environ: Mapping[str, str]) -> SettingsResult:
    """
    Return the valid settings, and the problems with the other settings.

    Raises nothing.
    """
    reading = _Reading()
    config, roles, sts = reading.settings(environ)
    first = sts and reading.attempt(partial(_usable_endpoint, sts))
    others = sts and reading.attempt(partial(fallbacks_of, sts))
    facts = SettingsFacts(
        roles=roles,
        region=sts.region if sts else None,
        sts_url=first,
        names_role=side(environ) is Side.SIDECAR,
        problems=tuple(reading.problems.values()),
        unknown_variables=tuple(unknown_variables(environ)),
        warnings=tuple(outbound_warnings(sts)) if sts and first else (),
    )
    return SettingsResult(facts, config, roles, sts if first else None, (first, *(others or ())) if first else ())


class _Reading:
    """A reader of settings that stores each problem once."""

    def __init__(self) -> None:
        self.problems: dict[str, Explanation] = {}

    def attempt(self, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except ConfigurationError as error:
            self.problems[str(error)] = error.explanation
            return None

    def settings(self, environ: Mapping[str, str]) -> tuple[Config | None, tuple[Role, ...], StsSettings | None]:
        """
        Return the settings.

        If one setting is invalid, the SDKs' variables may still define the role and STS.
        """
        read = self.attempt(lambda: read_settings(environ, {}, allow_non_loopback=True))
        if read is None:
            role = self.attempt(lambda: read_role(environ, role_defaults(environ)))
            return None, (role,) if role else (), self.attempt(lambda: read_sts_settings(environ))
        config, defaults = read
        return config, self.attempt(lambda: read_roles(config, environ, defaults)) or (), config.sts


def _usable_endpoint(sts: StsSettings) -> str:
    """
    Return the URL of STS.

    Raises ConfigurationError if the URL, the CA bundle or the proxy is invalid.
    """
    open_client(sts)
    return endpoint_of(sts)
