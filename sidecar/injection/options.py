"""
Read the annotations of a Pod and its ServiceAccount, and check them by the rules for the settings of `run`. Pure.

Rule: if one of our annotations is wrong, the Pod is rejected, and the message names the annotation, its value and the
fix. This is true even if the annotation would have no effect, because users notice an ignored annotation too late.
Amazon's annotations of a ServiceAccount have the same meaning as for Amazon's webhook. For example, a token lifetime
outside the limits is changed to the nearest limit instead of being rejected.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import ConfigurationError, sentences
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
"""Default lifetime of a token, as in Amazon's webhook. A stolen token is valid for at most this time."""

MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS = 600, 86_400
"""Limits of a token's lifetime: the shortest that the API server issues, and the longest that EKS issues."""

MAX_ROLES_CHARACTERS, MAX_ROLES_DEPTH = 8192, 10
"""
Limits for the length and the nesting of a list of roles. A session policy in a chain needs ten levels.

PyYAML's work is the number of tokens times the number of open levels. Within these limits parsing takes at most 0.1 s.
A text of 60,000 characters with 200 levels took 4 s.
"""

MAX_AUDIENCE_CHARACTERS = 255
"""IAM's limit for a client ID of an OIDC provider."""

AUDIENCE_PATTERN = rf"[\x21-\x7e]{{1,{MAX_AUDIENCE_CHARACTERS}}}"
"""Pattern of an audience."""

MAX_NUMBER = 999_999_999
"""The largest value of Amazon's annotation for the token's lifetime that is changed to a limit instead of rejected."""

DEFAULT_SESSION_SECONDS = 3600
"""Default duration of a session. IAM allows no shorter maximum for a role."""


class NoRoleError(ConfigurationError):
    """An error for a Pod without a role: neither the Pod nor its ServiceAccount names one."""


class RoleAssignment(NamedTuple):
    """
    A role. `containers` get its credentials, and None means all containers that no other role names.

    `session_seconds` is the lifetime of the credentials. For the duration `max` it is the shortest maximum in IAM.
    """

    name: str
    containers: tuple[str, ...] | None = None
    path: str = CREDENTIALS_PATH
    session_seconds: int = DEFAULT_SESSION_SECONDS


class InjectionOptions(NamedTuple):
    """
    The options of one Pod.

    `role_arn` is None if `roles` come from the annotation for several roles. `duration` and `session_name` are the
    checked texts of their annotations. If `containers` is None, all containers except `skipped` get credentials.
    """

    role_arn: str | None
    roles: tuple[RoleAssignment, ...]
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
    """
    Return the options in the annotations of the Pod and its ServiceAccount.

    Raises NoRoleError if neither names a role, and ConfigurationError if an annotation is wrong.
    """
    own = {name: annotations[name] for name in ANNOTATIONS if name in annotations}
    of_service_account = service_account.annotations if service_account else {}
    if CONTAINERS in own and SKIP_CONTAINERS in own:
        raise ConfigurationError(
            f"The Pod has both annotations {CONTAINERS} and {SKIP_CONTAINERS}",
            fix="Keep one of them, because each annotation applies to every container",
        )
    try:
        role_arn, roles = _roles(own, service_account, settings, _defaults(own))
    except NoRoleError as error:
        fix = sentences(error.fix, role_hint(annotations, service_account))
        raise NoRoleError(error.problem, fix=fix) from None
    return InjectionOptions(
        role_arn=role_arn,
        roles=roles,
        audience=_audience(own, of_service_account),
        expiration_seconds=_expiration(own, annotations, of_service_account),
        duration=own.get(DURATION),
        session_name=own.get(SESSION_NAME),
        containers=_names(CONTAINERS, own[CONTAINERS]) if CONTAINERS in own else None,
        skipped=_names(SKIP_CONTAINERS, own[SKIP_CONTAINERS]) if SKIP_CONTAINERS in own else (),
        is_sts_regional=of_service_account.get(EKS_STS_REGIONAL, "").lower() == "true",
    )


def _defaults(own: Mapping[str, str]) -> RoleDefaults:
    """
    Return the default settings of roles.

    Raises ConfigurationError if an annotation is wrong.
    """
    duration, session_name = own.get(DURATION), own.get(SESSION_NAME)
    setting = f"annotation {DURATION}"
    return RoleDefaults(
        token_file=TOKEN_FILE,
        session_name=session_name and parse_session_name(f"annotation {SESSION_NAME}", session_name),
        duration_seconds=DEFAULT_SESSION_SECONDS if duration is None else parse_duration(setting, duration),
    )


def _roles(
    own: Mapping[str, str], service_account: ServiceAccount | None, settings: Settings, defaults: RoleDefaults
) -> tuple[str | None, tuple[RoleAssignment, ...]]:
    if ROLES in own:
        if ROLE_ARN in own:
            raise ConfigurationError(
                f"The Pod has both annotations {ROLES} and {ROLE_ARN}", fix=f"Move the role of {ROLE_ARN} to {ROLES}"
            )
        return None, _parsed_roles(own[ROLES], defaults)
    only = RoleAssignment(DEFAULT_ROLE, session_seconds=defaults.duration_seconds or DEFAULT_SESSION_SECONDS)
    if ROLE_ARN in own:
        return parse_role_arn(f"annotation {ROLE_ARN}", own[ROLE_ARN]), (only,)
    if settings.role_arn is not None:
        return settings.role_arn, (only,)
    name = EKS_ROLE_ARN
    if service_account is None:
        raise NoRoleError(
            "There is no role", fix=f"Set the annotation {ROLE_ARN} on the Pod, or {name} on its ServiceAccount"
        )
    setting = f"annotation {name} of ServiceAccount {service_account.namespace}/{service_account.name}"
    if name not in service_account.annotations:
        raise NoRoleError(
            "There is no role",
            fix=f"Set the annotation {name} on ServiceAccount {service_account.namespace}/{service_account.name}, "
            f"or the annotation {ROLE_ARN} on the Pod",
        )
    return parse_role_arn(setting, service_account.annotations[name]), (only,)


def _parsed_roles(text: str, defaults: RoleDefaults) -> tuple[RoleAssignment, ...]:
    from sidecar.config.roles_file import parse_roles  # noqa: PLC0415  a YAML parser, only for Pods that need one

    where = f"annotation {ROLES}"
    if len(text) > MAX_ROLES_CHARACTERS:
        raise ConfigurationError(
            f"{where} has {len(text)} characters",
            fix=f"Use at most {MAX_ROLES_CHARACTERS}. A managed policy in policy_arns is shorter than a policy",
            setting=where,
        )
    roles = parse_roles(text, where, defaults, MAX_ROLES_DEPTH)
    for role in roles:
        _check_files(where, role)
    if sum(role.containers is None for role in roles) > 1:
        open_roles = ", ".join(role.name for role in roles if role.containers is None)
        raise ConfigurationError(
            f"{where} has several roles without `containers` ({open_roles}), but a container has one role",
            fix="Add `containers` to all but one of them",
            setting=where,
        )
    return tuple(RoleAssignment(role.name, role.containers, role.path, _session_seconds(role)) for role in roles)


def _session_seconds(role: Role) -> int:
    """Return the lifetime of the role's credentials. For a chain, this is the duration of the last step."""
    seconds = role.chain[-1].duration_seconds if role.chain else role.duration_seconds
    return seconds or DEFAULT_SESSION_SECONDS


def _check_files(where: str, role: Role) -> None:
    """Raise ConfigurationError if `containers` is empty, or if the role names a file that injection does not mount."""
    if role.token_file != TOKEN_FILE:
        raise ConfigurationError(
            f"{where} has a token_file for role {role.name}, which is not mounted into the sidecar",
            fix=f"Remove the token_file. To choose the token's audience, set {AUDIENCE}",
            setting=where,
        )
    if role.authorization_token_file is not None:
        raise ConfigurationError(
            f"{where} has an authorization_token_file for role {role.name}, but injection creates one for each role",
            fix="Remove it. Only the containers of a role can read the role's file",
            setting=where,
        )
    if role.containers == ():
        raise ConfigurationError(
            f"{where} gives role {role.name} to no container",
            fix="Name a container in the role's `containers`, or remove the role",
            setting=where,
        )


def _audience(own: Mapping[str, str], of_service_account: Mapping[str, str]) -> str:
    name = AUDIENCE if AUDIENCE in own else EKS_AUDIENCE
    audience = own.get(AUDIENCE, of_service_account.get(name, DEFAULT_AUDIENCE))
    if not re.fullmatch(AUDIENCE_PATTERN, audience):
        raise ConfigurationError(
            f"annotation {name} is {audience[:100]!r}, which cannot be an audience",
            fix=f"Use an audience of IAM's OIDC provider, such as {DEFAULT_AUDIENCE}",
            setting=f"annotation {name}",
        )
    return audience


def _expiration(own: Mapping[str, str], annotations: Mapping[str, str], of_service_account: Mapping[str, str]) -> int:
    if TOKEN_EXPIRATION in own:
        setting = f"annotation {TOKEN_EXPIRATION}"
        return parse_whole_number(setting, own[TOKEN_EXPIRATION], MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS)
    name = EKS_TOKEN_EXPIRATION
    text = annotations.get(name, of_service_account.get(name))
    if text is None:
        return DEFAULT_EXPIRATION_SECONDS
    seconds = parse_whole_number(f"annotation {name}", text, 0, MAX_NUMBER)
    return max(MIN_EXPIRATION_SECONDS, min(seconds, MAX_EXPIRATION_SECONDS))


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigurationError(
            f"annotation {name} is {text[:100]!r}, which is not a list of names",
            fix="Use names of containers, separated by commas",
            setting=f"annotation {name}",
        )
    return tuple(dict.fromkeys(names))
