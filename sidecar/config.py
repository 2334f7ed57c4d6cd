"""
The settings of `run`: one table, read from the environment and from flags, checked once, then frozen.

AWS's own names stand for AWS's things and are read as its SDKs read them; ours begin with IRSA_SIDECAR_ and are
each also a flag, which wins. Imported before the listener is bound, so it must stay light.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.listen import format_address, is_loopback, parse_address

PREFIX = "IRSA_SIDECAR_"

LOG_FORMATS = ("json", "console")
LOG_LEVELS = ("debug", "info", "warning", "error")

MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 900, 43_200
"""The limits of AssumeRoleWithWebIdentity's DurationSeconds."""


Address = tuple[str, int]
"""Host, as an IP literal, and port."""


class Role(NamedTuple):
    """One role to keep credentials for. `session_name` None: from the token's claims."""

    name: str
    role_arn: str
    token_file: str
    session_name: str | None
    duration_seconds: int


class StsSettings(NamedTuple):
    """Which STS is spoken to, and how it is trusted. `fallback_regions` are asked, in order, when the first is out."""

    region: str | None
    endpoint_url: str | None
    use_fips: bool
    use_dualstack: bool
    ca_bundle: str | None
    fallback_regions: tuple[str, ...] = ()


class Config(NamedTuple):
    """Everything that `run` was told. `admin_listen` None: off. `log_format` None: by where stderr goes."""

    listen: Address
    admin_listen: Address | None
    authorization_token_file: str | None
    drain_seconds: float
    log_format: str | None
    log_level: str
    role: Role
    sts: StsSettings


class Setting(NamedTuple):
    """One of ours: the field of Config, its default as text, how its text is read, and what it means."""

    field: str
    variable: str
    flag: str
    default: str | None
    parse: Callable[[str, str], Any]
    metavar: str
    meaning: str


def _address_or_off(setting: str, text: str) -> Address | None:
    return None if text == "off" else parse_address(setting, text)


def _path(setting: str, text: str) -> str:
    # An empty flag is a variable that was not expanded: taken for "none", it would take the secret away unseen.
    if not text:
        raise ConfigurationError(f"{setting} is empty: give the path of a file, or leave it out.")
    return text


def _whole_number(setting: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ConfigurationError(f"{setting} is {text!r}: give whole seconds from {low} to {high}.")
    return int(text)


def _duration(setting: str, text: str) -> int:
    return _whole_number(setting, text, MIN_DURATION_SECONDS, MAX_DURATION_SECONDS)


def _drain(setting: str, text: str) -> int:
    return _whole_number(setting, text, 0, 86_400)


def _regions(setting: str, text: str) -> tuple[str, ...]:
    regions = tuple(region.strip() for region in text.split(","))
    if not all(regions):
        raise ConfigurationError(
            f"{setting} is {text!r}, which has an empty name in it: give regions between commas, as "
            "eu-central-1,eu-north-1, or leave it out."
        )
    return regions


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def parse(setting: str, text: str) -> str:
        if text not in choices:
            raise ConfigurationError(
                f"{setting} is {text!r}: give one of {', '.join(choices)}{_nearest(text, choices)}."
            )
        return text

    return parse


SETTINGS = (
    Setting("listen", "LISTEN", "--listen", "127.0.0.1:4772", parse_address, "HOST:PORT",
            "where credentials are served; loopback only; port 0 takes a free port and prints it"),
    Setting("admin_listen", "ADMIN_LISTEN", "--admin-listen", "0.0.0.0:4773", _address_or_off, "HOST:PORT|off",
            "where probes and metrics are served, never credentials"),
    Setting("authorization_token_file", "AUTHORIZATION_TOKEN_FILE", "--authorization-token-file", None, _path, "FILE",
            "the secret that clients must send as Authorization; made if it is not there"),
    Setting("duration_seconds", "DURATION", "--duration", "3600", _duration, "SECONDS",
            "how long credentials are asked for: 900 to 43200, at most what the role allows"),
    Setting("sts_fallback_regions", "STS_FALLBACK_REGIONS", "--sts-fallback-regions", None, _regions, "REGION,...",
            "whose STS to ask, in order, when that of AWS_REGION is out; the token goes there then"),
    Setting("drain_seconds", "DRAIN_SECONDS", "--drain-seconds", "0", _drain, "SECONDS",
            "after SIGTERM go on serving this long; a native sidecar is stopped last and needs none"),
    Setting("log_format", "LOG_FORMAT", "--log-format", None, _one_of(*LOG_FORMATS), "json|console",
            "json unless stderr is a terminal"),
    Setting("log_level", "LOG_LEVEL", "--log-level", "info", _one_of(*LOG_LEVELS),
            "LEVEL", "debug, info, warning or error"),
)  # fmt: skip

_KUBERNETES_SERVICE = re.compile(
    r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes makes of a Service's name in every container's environment (docs: Accessing Services, DNS and
environment variables): a Service `irsa-sidecar-x` is not a setting of ours."""


def read_config(
    environ: Mapping[str, str], flags: Mapping[str, str | None], *, allow_non_loopback: bool = False
) -> Config:
    """
    The configuration, from the environment and the flags given (by field). Raises ConfigurationError.

    An empty variable counts as unset, as it does to the AWS SDKs.
    """
    ours = {setting.field: _read(setting, environ, flags) for setting in SETTINGS}
    role = read_role(environ, duration_seconds=ours.pop("duration_seconds"))
    sts = read_sts_settings(environ, fallback_regions=ours.pop("sts_fallback_regions") or ())
    config = Config(**ours, role=role, sts=sts)
    if not (allow_non_loopback or is_loopback(config.listen[0])):
        raise ConfigurationError(
            f"IRSA_SIDECAR_LISTEN is {format_address(*config.listen)}, which others on the network could reach: "
            "give a loopback address such as 127.0.0.1:4772, or add --allow-non-loopback if something else guards it."
        )
    return config


def read_role(environ: Mapping[str, str], *, duration_seconds: int = 3600) -> Role:
    """The one role that the SDKs' own variables name. Raises ConfigurationError."""
    return Role(
        name="default",
        role_arn=_role_arn(_required(environ, "AWS_ROLE_ARN", "the ARN of the IAM role to assume")),
        token_file=_token_file(
            _required(environ, "AWS_WEB_IDENTITY_TOKEN_FILE", "the path of the projected service account token")
        ),
        session_name=environ.get("AWS_ROLE_SESSION_NAME") or None,
        duration_seconds=duration_seconds,
    )


def read_sts_settings(environ: Mapping[str, str], *, fallback_regions: tuple[str, ...] = ()) -> StsSettings:
    """Where STS is, as the SDKs read it. Raises ConfigurationError."""
    return StsSettings(
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_url=_endpoint_url(environ),
        use_fips=_boolean(environ, "AWS_USE_FIPS_ENDPOINT"),
        use_dualstack=_boolean(environ, "AWS_USE_DUALSTACK_ENDPOINT"),
        ca_bundle=environ.get("AWS_CA_BUNDLE") or None,
        fallback_regions=fallback_regions,
    )


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each IRSA_SIDECAR_ variable that is no setting, with the nearest that is."""
    known = [setting.variable for setting in SETTINGS]
    ours = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    return [
        f"{PREFIX}{name} is no setting of irsa-sidecar and is passed over{_nearest(name, known, PREFIX)}."
        for name in ours
        if name not in known and not _KUBERNETES_SERVICE.fullmatch(name)
    ]


def _read(setting: Setting, environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Any:
    given = flags.get(setting.field)
    if given is not None:
        return setting.parse(setting.flag, given)
    name = PREFIX + setting.variable
    text = environ.get(name) or setting.default
    return None if text is None else setting.parse(name, text)


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigurationError(
            f"{name} is not set: it must be {meaning}. An EKS Pod gets it from the webhook, others from their manifest."
        )
    return value


def _role_arn(arn: str) -> str:
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]{1,2000}", arn):
        raise ConfigurationError(
            f"AWS_ROLE_ARN is {arn[:100]!r}: give the ARN of an IAM role, as arn:aws:iam::111122223333:role/app."
        )
    return arn


def _token_file(path: str) -> str:
    """The path, unless it is the token itself, which every later message about the file would show."""
    if re.match(r"eyJ[\w-]+\.[\w-]+\.", path):
        raise ConfigurationError(
            "AWS_WEB_IDENTITY_TOKEN_FILE is a token itself (not shown here): give the path of the file that holds it, "
            "as /var/run/secrets/eks.amazonaws.com/serviceaccount/token."
        )
    return path


def _endpoint_url(environ: Mapping[str, str]) -> str | None:
    """The SDKs' order: the service's own variable, then the general one, unless both are to be ignored."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_STS") or environ.get("AWS_ENDPOINT_URL") or None


def _boolean(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").lower()
    if text not in {"", "true", "false"}:
        raise ConfigurationError(f"{name} is {environ[name]!r}: give true or false.")
    return text == "true"


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    import difflib  # noqa: PLC0415  (only where something is wrong already)

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {prefix}{near[0]}?)" if near else ""
