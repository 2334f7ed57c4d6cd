"""
Read the settings of `run` from the environment and from flags, and check them once. SETTINGS lists our own settings.

Rules. AWS's own variables have the same meaning as in its SDKs. Our variables begin with IRSA_SIDECAR_. Each of them is
also a flag, which takes precedence. The module imports little, because the daemon imports it before the
listener is bound.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from sidecar.addresses import Address, format_address, is_loopback, parse_address
from sidecar.errors import ConfigurationError, Explanation
from sidecar.role import (
    DEFAULT_ROLE,
    PodNames,
    Role,
    RoleDefaults,
    parse_duration,
    parse_path,
    parse_role_arn,
    parse_token_file,
    parse_whole_number,
)
from sidecar.serving.authorization import TOKEN_MODES
from sidecar.serving.listen import DEFAULT_ADDRESS
from sidecar.sts.session_name import parse_session_name
from sidecar.sts.settings import StsSettings, read_sts_settings

PREFIX = "IRSA_SIDECAR_"
"""The prefix of our variables' names."""

LOG_FORMATS = ("json", "console")
LOG_LEVELS = ("debug", "info", "warning", "error")

POD_VARIABLES = ("POD_NAMESPACE", "POD_SERVICE_ACCOUNT", "POD_NAME", "POD_UID")
"""The variables that a manifest sets from the Downward API, in the order of PodNames."""


class Config(NamedTuple):
    """
    All settings of `run`.

    A listener whose address is None is disabled. `config_file` is the path of the roles file, if there is one. If
    `log_format` is None, the format depends on whether stderr is a terminal. After `read_config`, `roles` is not empty,
    and the names of the roles differ.
    """

    listen: Address
    admin_listen: Address | None
    authorization_token_file: str | None
    config_file: str | None
    drain_seconds: float
    log_format: str | None
    log_level: str
    roles: tuple[Role, ...]
    sts: StsSettings
    imds_listen: Address | None = None
    credentials_file: str | None = None
    authorization_mode: int = 0o640
    state_dir: str | None = None
    state_allow_disk: bool = False
    admin_page: bool = True

    @property
    def role(self) -> Role:
        """Return the first role, which is the only one unless a file defines several."""
        return self.roles[0]


class Setting(NamedTuple):
    """One of our settings: its field in Config, names, default as text, parser and help text."""

    field: str
    variable: str
    flag: str
    default: str | None
    parse: Callable[[str, str], Any]
    metavar: str
    meaning: str


def _address_or_off(setting: str, text: str) -> Address | None:
    return None if text == "off" else parse_address(setting, text)


def _drain(setting: str, text: str) -> int:
    return parse_whole_number(setting, text, 0, 86_400)


def _regions(setting: str, text: str) -> tuple[str, ...]:
    regions = tuple(region.strip() for region in text.split(","))
    if not all(regions):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which contains an empty name",
            fix="Set it to regions separated by commas, such as eu-central-1,eu-north-1, or remove the setting",
            setting=setting,
        )
    return regions


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def parse(setting: str, text: str) -> str:
        if text not in choices:
            raise ConfigurationError(
                f"{setting} is {text[:100]!r}, which is not a valid value{_nearest(text, choices)}",
                fix=f"Set it to one of {', '.join(choices)}",
                setting=setting,
            )
        return text

    return parse


def _true_or_false(setting: str, text: str) -> bool:
    return _one_of("true", "false")(setting, text.lower()) == "true"


def _on_or_off(setting: str, text: str) -> bool:
    return _one_of("on", "off")(setting, text) == "on"


def _mode(setting: str, text: str) -> int:
    return int(_one_of(*TOKEN_MODES)(setting, text), 8)


SETTINGS = (
    Setting("listen", "LISTEN", "--listen", DEFAULT_ADDRESS, parse_address, "HOST:PORT",
            "address of the credentials endpoint, on loopback only; with port 0, the kernel chooses a free port"),
    Setting("admin_listen", "ADMIN_LISTEN", "--admin-listen", "0.0.0.0:4773", _address_or_off, "HOST:PORT|off",
            "address for probes, metrics and the status; it never serves credentials"),
    Setting("admin_page", "ADMIN_PAGE", "--admin-page", "on", _on_or_off, "on|off",
            "whether the admin address also serves the status as a page on /"),
    Setting("authorization_token_file", "AUTHORIZATION_TOKEN_FILE", "--authorization-token-file", None,
            parse_path, "FILE", "file of the secret that clients must send as Authorization; the daemon creates a "
            "missing file; {role} in the path is replaced by the role's name"),
    Setting("authorization_mode", "AUTHORIZATION_MODE", "--authorization-mode", "0640", _mode,
            "|".join(TOKEN_MODES),
            "mode of a new secret file: only the owner can read it, or also the group, or everybody"),
    Setting("duration_seconds", "DURATION", "--duration", "3600", parse_duration, "SECONDS|max",
            "session duration to request: 900 to 43200, or max for the longest duration that the role allows"),
    Setting("config_file", "CONFIG", "--config", None, parse_path, "FILE",
            "YAML file with several roles, each on its own path; the daemon follows changes of the file"),
    Setting("sts_fallback_regions", "STS_FALLBACK_REGIONS", "--sts-fallback-regions", None, _regions, "REGION,...",
            "regions whose STS the daemon calls, in this order, while the STS of AWS_REGION is down; "
            "the STS of the fallback region then receives the token"),
    Setting("imds_listen", "IMDS_LISTEN", "--imds-listen", "off", _address_or_off, "HOST:PORT|off",
            "address for clients that support only EC2's metadata service; there, the daemon serves one role without a "
            "secret: the role named default, or the first role if no role has that name"),
    Setting("credentials_file", "CREDENTIALS_FILE", "--credentials-file", None, parse_path, "FILE",
            "also write credentials to this file, in the format of ~/.aws/credentials, with a profile per role"),
    Setting("state_dir", "STATE_DIR", "--state-dir", None, parse_path, "DIRECTORY",
            "directory that keeps the last valid credentials across a restart; it must be on a memory volume that only "
            "the sidecar mounts, unless --state-allow-disk is true"),
    Setting("state_allow_disk", "STATE_ALLOW_DISK", "--state-allow-disk", "false", _true_or_false, "true|false",
            "allow the state directory to be on a disk, where credentials may outlive the machine"),
    Setting("drain_seconds", "DRAIN_SECONDS", "--drain-seconds", "0", _drain, "SECONDS",
            "time after SIGTERM in which the daemon still serves; a native sidecar stops last and needs 0"),
    Setting("log_format", "LOG_FORMAT", "--log-format", None, _one_of(*LOG_FORMATS), "json|console",
            "format of the log: json or console; on a terminal the default is console, else json"),
    Setting("log_level", "LOG_LEVEL", "--log-level", "info", _one_of(*LOG_LEVELS),
            "LEVEL", "lowest level that is logged: debug, info, warning or error"),
)  # fmt: skip

_KUBERNETES_SERVICE = r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
"""
Pattern for the variables that Kubernetes adds to every container for a Service (docs: Accessing Services).

A Service `irsa-sidecar-x` leads to names that begin with our prefix but are not settings.
"""


def read_config(
    environ: Mapping[str, str], flags: Mapping[str, str | None], *, allow_non_loopback: bool = False
) -> Config:
    """
    Return the configuration from the environment, the flags (by field) and the roles file.

    Raises ConfigurationError if a setting or a role is invalid.
    """
    config, defaults = read_settings(environ, flags, allow_non_loopback=allow_non_loopback)
    return config._replace(roles=read_roles(config, environ, defaults))


def read_settings(
    environ: Mapping[str, str], flags: Mapping[str, str | None], *, allow_non_loopback: bool = False
) -> tuple[Config, RoleDefaults]:
    """
    Return the configuration without roles, and the defaults for the roles.

    An empty variable counts as unset, as in the AWS SDKs.

    Raises ConfigurationError if a setting is invalid.
    """
    ours = {setting.field: read_setting(setting, environ, flags) for setting in SETTINGS}
    duration_seconds = ours.pop("duration_seconds")
    sts = read_sts_settings(environ, fallback_regions=ours.pop("sts_fallback_regions") or ())
    config = Config(**ours, roles=(), sts=sts)
    if not allow_non_loopback:
        check_loopback("LISTEN", config.listen)
        check_loopback("IMDS_LISTEN", config.imds_listen)
    return config, role_defaults(environ, duration_seconds, config.authorization_token_file)


def check_loopback(variable: str, address: Address | None) -> None:
    """Raise ConfigurationError if other machines can reach the address."""
    if address is not None and not is_loopback(address[0]):
        raise ConfigurationError(
            f"{PREFIX}{variable} is {format_address(*address)}, which other machines could reach",
            fix=f"Use a loopback address such as 127.0.0.1:{address[1]}, or run `irsa-sidecar run "
            "--allow-non-loopback` if something else protects this address",
            setting=f"{PREFIX}{variable}",
        )


def role_defaults(
    environ: Mapping[str, str], duration_seconds: int | None = 3600, authorization_token_file: str | None = None
) -> RoleDefaults:
    """
    Return the defaults for roles from the variables of AWS and the Downward API.

    Raises ConfigurationError if a variable is invalid.
    """
    token_file = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or None
    name = environ.get("AWS_ROLE_SESSION_NAME") or None
    return RoleDefaults(
        token_file=token_file and parse_token_file("AWS_WEB_IDENTITY_TOKEN_FILE", token_file),
        session_name=name and parse_session_name("AWS_ROLE_SESSION_NAME", name),
        duration_seconds=duration_seconds,
        authorization_token_file=authorization_token_file,
        pod_names=PodNames(*(environ.get(variable) or None for variable in POD_VARIABLES)),
    )


def read_roles(config: Config, environ: Mapping[str, str], defaults: RoleDefaults) -> tuple[Role, ...]:
    """
    Return the roles in the file if there is one, else the role in the SDKs' variables.

    Raises ConfigurationError if the file or a role is invalid.
    """
    if config.config_file is None:
        return (read_role(environ, defaults),)
    from sidecar.config.roles_file import read_roles_file  # noqa: PLC0415  only this setting needs a YAML parser

    roles = read_roles_file(config.config_file, defaults)
    for role in roles:
        if role.chain:
            _check_signing_region(role, config.sts)
    return roles


def _check_signing_region(role: Role, sts: StsSettings) -> None:
    """
    Raise ConfigurationError if there is no valid region for the signatures of a role with a chain.

    Each AssumeRole in a chain is signed for a region, even if the URL of STS is set.
    """
    from sidecar.sts.endpoint import signing_region  # noqa: PLC0415  only role chains need it

    if sts.region is None:
        raise ConfigurationError(
            f"AWS_REGION is not set, and role {role.name} has a chain, whose requests are signed for a region",
            fix="Set it to the region of the STS in AWS_ENDPOINT_URL_STS, such as eu-west-1",
            setting="AWS_REGION",
        )
    signing_region(sts.region)


def read_role(environ: Mapping[str, str], defaults: RoleDefaults) -> Role:
    """
    Return the role in the SDKs' own variables.

    Raises ConfigurationError if one of them is missing or invalid.
    """
    role_arn = read_role_arn(environ)
    read_token_file(environ)
    return defaults.role(DEFAULT_ROLE, role_arn)


def read_role_arn(environ: Mapping[str, str]) -> str:
    """
    Return AWS_ROLE_ARN.

    Raises ConfigurationError if it is missing or is not the ARN of a role.
    """
    return parse_role_arn("AWS_ROLE_ARN", _required(environ, "AWS_ROLE_ARN", "the ARN of the IAM role to assume"))


def read_token_file(environ: Mapping[str, str]) -> str:
    """
    Return AWS_WEB_IDENTITY_TOKEN_FILE.

    Raises ConfigurationError if it is missing or is not a valid path.
    """
    name = "AWS_WEB_IDENTITY_TOKEN_FILE"
    return parse_token_file(name, _required(environ, name, "the path of the projected service account token"))


def unknown_variables(environ: Mapping[str, str]) -> list[Explanation]:
    """
    Return a warning for each IRSA_SIDECAR_ variable that is not a setting, with the most similar setting.

    Variables that Kubernetes adds for a Service are exempt.
    """
    known = [setting.variable for setting in SETTINGS]
    ours = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    return [
        Explanation(
            f"{PREFIX}{name} is not a setting of irsa-sidecar and is ignored{_nearest(name, known, PREFIX)}",
            fix="Correct its name, or remove it",
        )
        for name in ours
        if name not in known and not re.fullmatch(_KUBERNETES_SERVICE, name)
    ]


def read_setting(setting: Setting, environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Any:
    """
    Return the flag's value, else the variable's, else the default.

    Raises ConfigurationError if it is invalid.
    """
    flag = flags.get(setting.field)
    if flag is not None:
        return setting.parse(setting.flag, flag)
    name = PREFIX + setting.variable
    text = environ.get(name) or setting.default
    return None if text is None else setting.parse(name, text)


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigurationError(
            f"{name} is not set",
            fix=f"Set it to {meaning}. On EKS, Amazon's webhook sets it. Elsewhere, set it in the Pod's manifest",
            setting=name,
        )
    return value


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    import difflib  # noqa: PLC0415  only for a message about a wrong value

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {prefix}{near[0]}?)" if near else ""
