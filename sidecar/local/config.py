"""
Read the settings of `local` from a YAML file into frozen values. Each setting at the top level is optional.

Rule: an unknown name or a value of the wrong type is an error. The error shows the location and the values that are
accepted there. The defaults alone are a working set-up. Readers with parameters are values, so that the JSON Schema of
the file comes from the same fields (tests/docs/schemas).
"""

import os.path
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sidecar import strict_yaml
from sidecar.config_file import read_config_file, suggested_key
from sidecar.errors import ConfigurationError
from sidecar.kubernetes.names import NAME
from sidecar.local.policy_lines import ConditionLines, role_lines
from sidecar.local.roles import MAX_SESSION_SECONDS, MIN_SESSION_SECONDS, ROLE_ARN
from sidecar.local.shown_value import shown

DEFAULT_ACCOUNT_ID = "111122223333"
ISSUER_PLACEHOLDER = "{issuer}"
"""
The placeholder in a trust policy for the local issuer's URL without the scheme.

The issuer's port is known only when the issuer runs.
"""

_Read = Callable[[str, Any], Any]


@dataclass(frozen=True, slots=True)
class Matching:
    """A reader of text that matches a regular expression. `wanted` describes such a text."""

    pattern: str
    wanted: str

    def __call__(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ConfigurationError(
                f"{where} is {shown(value)}, which is not valid", fix=f"Use {self.wanted}", setting=where
            )
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A reader of a whole number between two limits."""

    low: int
    high: int
    unit: str

    def __call__(self, where: str, value: Any) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ConfigurationError(
                f"{where} is {shown(value)}, which is not valid",
                fix=f"Use {self.unit} from {self.low} to {self.high}",
                setting=where,
            )
        return value


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{where} is {shown(value)}, which is not a mapping", fix="Write names with values", setting=where
        )
    return value


@dataclass(frozen=True, slots=True)
class ListOf:
    """A reader of a list."""

    read_item: _Read

    def __call__(self, where: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ConfigurationError(
                f"{where} is {shown(value)}, which is not a list", fix="Start each item with `- `", setting=where
            )
        return tuple(self.read_item(f"{where}[{index}]", item) for index, item in enumerate(value))


def _path(where: str, value: Any) -> Path:
    return Path(os.path.expanduser(_text(where, value)))  # Path.expanduser raises an error for an unknown user


def _url(where: str, value: Any) -> str:
    url: str = _url_text(where, value)
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid address in brackets, or an invalid port
        is_whole = False
    if not is_whole:
        raise ConfigurationError(
            f"{where} is {shown(url)}, which has no usable host and port", fix=f"Use {_A_URL}", setting=where
        )
    return url


_A_URL = "a URL such as https://issuer.example.com"

_text = Matching(r"[^\x00-\x1f]+", "text (numbers in quotes)")
_url_text = Matching(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%/-]*)?", _A_URL)
_port = Number(0, 65535, "a port (0 for a free port)")
_ip_address = Matching(r"[0-9.]{7,15}|[0-9a-fA-F:.]{2,45}", "an IP address to listen on, such as 127.0.0.1")
_role_arn = Matching(ROLE_ARN.pattern, "the ARN of an IAM role, such as arn:aws:iam::111122223333:role/app")
_role_name = Matching(r"[A-Za-z0-9_+=,.@-]{1,64}", "a role's name: 1 to 64 of letters, digits and _+=,.@-")
_label = Matching(NAME, "a Kubernetes name: lower-case letters, digits and -")
_account = Matching(r"[0-9]{12}", 'a 12-digit account id in quotes, such as "111122223333"')
_session_seconds = Number(MIN_SESSION_SECONDS, MAX_SESSION_SECONDS, "seconds")


def _setting(read: _Read, default: Any) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """
    The settings of one role, with its `arn`, or with its `name` in the local account.

    A role without a trust policy trusts the local Pod. `condition_lines` is not a setting. It contains the lines of
    the trust policy's conditions in the file.
    """

    name: str | None = _setting(_role_name, None)
    arn: str | None = _setting(_role_arn, None)
    trust_policy: Mapping[str, Any] | None = _setting(_mapping, None)
    max_session_duration: int = _setting(_session_seconds, MIN_SESSION_SECONDS)
    condition_lines: ConditionLines = field(default_factory=dict, compare=False)


_DEFAULT_ROLES = (RoleSettings(name="app"),)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """The settings for another issuer whose tokens STS accepts. The keys come from the issuer or from `jwks_file`."""

    issuer: str = field(metadata={"read": _url})
    audiences: tuple[str, ...] = _setting(ListOf(_text), ("sts.amazonaws.com",))
    jwks_file: Path | None = field(default=None, metadata={"read": _path})


def _role(where: str, value: Any) -> RoleSettings:
    role: RoleSettings = _read(RoleSettings, value, where)
    if (role.name is None) is (role.arn is None):
        raise ConfigurationError(
            f"{where} does not have exactly one of name and arn",
            fix="Set either name or arn",
            setting=where,
        )
    return role


def _provider(where: str, value: Any) -> ProviderSettings:
    provider: ProviderSettings = _read(ProviderSettings, value, where)
    return provider


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """
    All settings of the local services.

    With `issuer_url`, the local issuer signs as another issuer, such as a cluster's issuer. A person can then test a
    real trust policy without changing the policy. With an `sts_host` other than loopback, Pods in a development cluster
    can call STS. The daemon uses the first role.
    """

    account_id: str = _setting(_account, DEFAULT_ACCOUNT_ID)
    region: str = _setting(Matching(r"[a-z]{2}[a-z-]*-[0-9]+", "an AWS region, such as us-east-1"), "us-east-1")
    audience: str = _setting(_text, "sts.amazonaws.com")
    namespace: str = _setting(_label, "default")
    service_account: str = _setting(_label, "app")
    pod: str = _setting(_label, "app-0")
    node: str = _setting(_label, "local")
    token_lifetime_seconds: int = _setting(Number(600, 86_400, "seconds"), 600)
    key_rotation_seconds: int = _setting(Number(60, 31_536_000, "seconds"), 3600)
    issuer_url: str | None = _setting(_url, None)
    issuer_port: int = _setting(_port, 0)
    sts_port: int = _setting(_port, 0)
    sts_host: str = _setting(_ip_address, "127.0.0.1")
    roles: tuple[RoleSettings, ...] = _setting(ListOf(_role), _DEFAULT_ROLES)
    providers: tuple[ProviderSettings, ...] = _setting(ListOf(_provider), ())

    def with_provider(self, issuer: str, *, jwks_file: Path | None = None) -> "LocalConfig":
        """
        Return the configuration with one more accepted issuer, which a flag names.

        Raises ConfigurationError if the issuer's URL is invalid.
        """
        settings = ProviderSettings(_url("--issuer", issuer), (self.audience,), jwks_file)
        return replace(self, providers=(*self.providers, settings))


def read_config(path: Path | None) -> LocalConfig:
    """
    Return the configuration in the file, or the defaults if `path` is None.

    Raises ConfigurationError if the file is not readable or not valid.
    """
    if path is None:
        return LocalConfig()
    return parse_config(read_config_file("--config", str(path), "Set it to a YAML file"), str(path))


def parse_config(content: bytes | str, path: str) -> LocalConfig:
    """
    Return the configuration in a file's text. Messages name the file `path`.

    Raises ConfigurationError if the text is not valid.
    """
    document = strict_yaml.load(content, path)
    with strict_yaml.reading(path):
        config: LocalConfig = _read(LocalConfig, {} if document is None else document, path)
    if not config.roles:
        raise ConfigurationError(
            f"{path}: roles is empty", fix="Add at least one role, or remove the setting", setting=path
        )
    return config if config.roles is _DEFAULT_ROLES else _with_lines(config, role_lines(content, path))


def _with_lines(config: LocalConfig, lines: list[ConditionLines]) -> LocalConfig:
    roles = (replace(role, condition_lines=each) for role, each in zip(config.roles, lines, strict=False))
    return replace(config, roles=tuple(roles))


def _read(kind: type[Any], value: Any, where: str) -> Any:
    known: dict[str, Field[Any]] = {item.name: item for item in fields(kind) if "read" in item.metadata}
    for name in _mapping(where, value):
        if name not in known:
            raise ConfigurationError(
                f"{where}: {shown(name)} is not a setting", fix=suggested_key(str(name), known), setting=where
            )
    missing = [name for name, item in known.items() if item.default is MISSING and name not in value]
    if missing:
        raise ConfigurationError(f"{where}: {', '.join(missing)} is missing", fix="Add it", setting=where)
    return kind(**{name: known[name].metadata["read"](f"{where}: {name}", item) for name, item in value.items()})
