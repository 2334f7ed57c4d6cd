"""
What a Pod and its ServiceAccount ask for in their annotations, checked by the rules of `run`'s own settings. Pure.

Rule: whatever of ours is wrong is a refusal that names annotation, value and fix, also where it would change nothing:
a Pod that starts with less than its author wrote is found out too late. Amazon's annotations on a ServiceAccount keep
Amazon's reading of them, which clips a lifetime instead of refusing it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.known_names import role_hint
from sidecar.injection.names import (
    ANNOTATIONS,
    AUDIENCE,
    CONTAINERS,
    DURATION,
    EKS_AUDIENCE,
    EKS_ROLE_ARN,
    EKS_STS_REGIONAL,
    EKS_TOKEN_EXPIRATION,
    ROLE_ARN,
    ROLES,
    SESSION_NAME,
    SKIP_CONTAINERS,
    TOKEN_EXPIRATION,
    TOKEN_FILE,
)
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.role import (
    CREDENTIALS_PATH,
    DEFAULT_ROLE,
    Role,
    RoleDefaults,
    parse_duration,
    parse_role_arn,
    parse_whole_number,
)
from sidecar.sts.session_name import parse_session_name

DEFAULT_AUDIENCE = "sts.amazonaws.com"

DEFAULT_EXPIRATION_SECONDS = 86_400
"""What Amazon's webhook asks for. A token outlives its Pod's last exchange by that much at most."""

MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS = 600, 86_400
"""The API server issues nothing shorter, and EKS nothing longer."""

MAX_ROLES_CHARACTERS, MAX_ROLES_DEPTH = 8192, 10
"""
The length and the nesting of a list of roles, in which a chain's session policy has ten levels.

PyYAML's work is the number of tokens times the number of open levels: at most 0.1 s within these limits, where 60,000
characters that nest 200 deep took 4 s.
"""

MAX_AUDIENCE_CHARACTERS = 255
"""IAM's limit of a client ID of an OIDC provider."""


DEFAULT_SESSION_SECONDS = 3600
"""Duration of a session unless another is given, and IAM's shortest maximum of a role."""


class NoRoleError(ConfigurationError):
    """Neither the Pod nor its ServiceAccount names a role."""


class RoleAssignment(NamedTuple):
    """
    A role and the containers that get its credentials; None: those that no other role names.

    `session_seconds` is how long its credentials are valid. For the duration `max` it is the shortest maximum of IAM.
    """

    role: str
    containers: tuple[str, ...] | None = None
    path: str = CREDENTIALS_PATH
    session_seconds: int = DEFAULT_SESSION_SECONDS


class InjectionOptions(NamedTuple):
    """
    Everything that is asked for.

    `role_arn` is None where `grants` come from the annotation of several roles. `duration` and `session_name` stay as
    they were written, once they are known to be right. `containers` None: all but `skipped`.
    """

    role_arn: str | None
    assignments: tuple[RoleAssignment, ...]
    audience: str
    expiration_seconds: int
    duration: str | None
    session_name: str | None
    containers: tuple[str, ...] | None
    skipped: tuple[str, ...]
    is_sts_regional: bool


def read_options(
    annotations: Mapping[str, str], service_account: ServiceAccount | None, settings: Settings
) -> InjectionOptions:
    """What the Pod's annotations and its ServiceAccount's ask for. Raises ConfigurationError."""
    said = {name: annotations[name] for name in ANNOTATIONS if name in annotations}
    theirs = service_account.annotations if service_account else {}
    if CONTAINERS in said and SKIP_CONTAINERS in said:
        raise ConfigurationError(
            f"annotations {CONTAINERS} and {SKIP_CONTAINERS} are both there: keep one, as each says it all."
        )
    duration, session_name = said.get(DURATION), said.get(SESSION_NAME)
    setting = f"annotation {DURATION}"
    defaults = RoleDefaults(
        token_file=TOKEN_FILE,
        session_name=session_name and parse_session_name(f"annotation {SESSION_NAME}", session_name),
        duration_seconds=DEFAULT_SESSION_SECONDS if duration is None else parse_duration(setting, duration),
    )
    try:
        role_arn, assignments = _roles(said, service_account, settings, defaults)
    except NoRoleError as error:
        raise NoRoleError(f"{error}{role_hint(annotations, service_account)}") from None
    return InjectionOptions(
        role_arn=role_arn,
        assignments=assignments,
        audience=_audience(said, theirs),
        expiration_seconds=_expiration(said, annotations, theirs),
        duration=duration,
        session_name=session_name,
        containers=_names(CONTAINERS, said[CONTAINERS]) if CONTAINERS in said else None,
        skipped=_names(SKIP_CONTAINERS, said[SKIP_CONTAINERS]) if SKIP_CONTAINERS in said else (),
        is_sts_regional=theirs.get(EKS_STS_REGIONAL, "").lower() == "true",
    )


def _roles(
    said: Mapping[str, str], service_account: ServiceAccount | None, settings: Settings, defaults: RoleDefaults
) -> tuple[str | None, tuple[RoleAssignment, ...]]:
    if ROLES in said:
        if ROLE_ARN in said:
            raise ConfigurationError(
                f"annotations {ROLES} and {ROLE_ARN} are both there: put the one role into the list."
            )
        return None, _listed(said[ROLES], defaults)
    only = RoleAssignment(DEFAULT_ROLE, session_seconds=defaults.duration_seconds or DEFAULT_SESSION_SECONDS)
    if ROLE_ARN in said:
        return parse_role_arn(f"annotation {ROLE_ARN}", said[ROLE_ARN]), (only,)
    if settings.role_arn is not None:
        return settings.role_arn, (only,)
    name = EKS_ROLE_ARN
    if service_account is None:
        raise NoRoleError(f"There is no role: give the Pod the annotation {ROLE_ARN}, or its ServiceAccount {name}.")
    setting = f"annotation {name} of ServiceAccount {service_account.namespace}/{service_account.name}"
    if name not in service_account.annotations:
        raise NoRoleError(f"There is no role: give the {setting}, or the Pod {ROLE_ARN}.")
    return parse_role_arn(setting, service_account.annotations[name]), (only,)


def _listed(text: str, defaults: RoleDefaults) -> tuple[RoleAssignment, ...]:
    from sidecar.config.roles_file import parse_roles  # noqa: PLC0415  a YAML parser, for those who need one

    where = f"annotation {ROLES}"
    if len(text) > MAX_ROLES_CHARACTERS:
        raise ConfigurationError(
            f"{where} has {len(text)} characters: give at most {MAX_ROLES_CHARACTERS}; a managed policy in policy_arns "
            "is shorter than a policy."
        )
    roles = parse_roles(text, where, defaults, MAX_ROLES_DEPTH)
    for role in roles:
        _check_files(where, role)
    if sum(role.containers is None for role in roles) > 1:
        open_roles = ", ".join(role.name for role in roles if role.containers is None)
        raise ConfigurationError(
            f"{where} has several roles without `containers`, {open_roles}, and a container has one role: say for all "
            "but one of them which containers get it."
        )
    return tuple(RoleAssignment(role.name, role.containers, role.path, _session_seconds(role)) for role in roles)


def _session_seconds(role: Role) -> int:
    """Return how long credentials of the role are valid: of a chain, those of its last step."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds
    return seconds or DEFAULT_SESSION_SECONDS


def _check_files(where: str, role: Role) -> None:
    """In a Pod that is injected the files are ours to choose: nothing else is mounted."""
    if role.token_file != TOKEN_FILE:
        raise ConfigurationError(
            f"{where} has a token_file for role {role.name}, which nothing mounts into the sidecar: leave it out; "
            f"{AUDIENCE} chooses the token's audience."
        )
    if role.authorization_token_file is not None:
        raise ConfigurationError(
            f"{where} has an authorization_token_file for role {role.name}: leave it out, as each role gets one of its "
            "own that only its containers see."
        )
    if role.containers == ():
        raise ConfigurationError(
            f"{where} gives role {role.name} to no container: name some in its `containers`, or leave the role out."
        )


def _audience(said: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    name = AUDIENCE if AUDIENCE in said else EKS_AUDIENCE
    audience = said.get(AUDIENCE, theirs.get(name, DEFAULT_AUDIENCE))
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_AUDIENCE_CHARACTERS}}}", audience):
        raise ConfigurationError(
            f"annotation {name} is {audience[:100]!r}: give the audience that IAM's OIDC provider knows, as "
            f"{DEFAULT_AUDIENCE}."
        )
    return audience


def _expiration(said: Mapping[str, str], annotations: Mapping[str, str], theirs: Mapping[str, str]) -> int:
    if TOKEN_EXPIRATION in said:
        setting = f"annotation {TOKEN_EXPIRATION}"
        return parse_whole_number(setting, said[TOKEN_EXPIRATION], MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS)
    name = EKS_TOKEN_EXPIRATION
    text = annotations.get(name, theirs.get(name))
    if text is None:
        return DEFAULT_EXPIRATION_SECONDS
    seconds = parse_whole_number(f"annotation {name}", text, 0, 999_999_999)
    return max(MIN_EXPIRATION_SECONDS, min(seconds, MAX_EXPIRATION_SECONDS))


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigurationError(f"annotation {name} is {text[:100]!r}: give names of containers, with commas between.")
    return tuple(dict.fromkeys(names))
