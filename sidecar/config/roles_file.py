"""
Read the roles from a YAML file. An error names the line, and the whole file is rejected.

Rules. Tables map each YAML key to the reader of its value. An unknown key, a duplicate key and a value of the wrong
kind are errors. Everything except `read_roles_file` is pure. strict_yaml.py parses the text.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from sidecar.config.yaml_values import (
    MAX_TAGS,
    ListOf,
    Matching,
    ParsedBy,
    Place,
    Reader,
    read_mapping,
    read_policy,
    read_tags,
    read_text,
    read_uid,
)
from sidecar.config_file import read_config_file
from sidecar.errors import ConfigurationError
from sidecar.role import (
    MAX_CHAIN_STEPS,
    MAX_CHAINED_SECONDS,
    MAX_POLICY_ARNS,
    MIN_DURATION_SECONDS,
    ChainStep,
    Role,
    RoleDefaults,
    parse_duration,
    parse_path,
    parse_role_arn,
    parse_session_policy,
    parse_token_file,
    parse_whole_number,
)
from sidecar.strict_yaml import MAX_DEPTH, Node, compose, line_of, reading
from sidecar.sts.session_name import parse_session_name

MAX_ROLES = 50
"""Maximum number of roles in one file."""


def read_roles_file(path: str, defaults: RoleDefaults) -> tuple[Role, ...]:
    """
    Read the roles in the file at `path`.

    Raises ConfigurationError if the file or a role is invalid.
    """
    fix = "Check that the volume is mounted there, and name a YAML file of roles"
    content = read_config_file("IRSA_SIDECAR_CONFIG", path, fix)
    return parse_roles(content, path, defaults)


def parse_roles(
    content: bytes | str, path: str, defaults: RoleDefaults, max_depth: int = MAX_DEPTH
) -> tuple[Role, ...]:
    """
    Parse the roles in a file's text. Messages use `path` as the file's name.

    The list of roles is under `roles:`, or it is the whole text, as in a Pod's annotation.

    Raises ConfigurationError if the text is not valid YAML, contains no roles, or contains an invalid role.
    """
    with reading(path):
        root = compose(content, path, max_depth=max_depth)
        if root is None:
            raise ConfigurationError(f"{path} is empty", fix="Add `roles:` and a list of roles", setting=path)
        return _roles_of(root, path, defaults)


def _roles_of(root: Node, path: str, defaults: RoleDefaults) -> tuple[Role, ...]:
    place, read_roles = Place(path, line_of(root)), ListOf(_role_reader(defaults), MAX_ROLES, "roles")
    is_bare = isinstance(root, yaml.SequenceNode)
    found = {"roles": read_roles(place, root)} if is_bare else read_mapping(place, root, {"roles": read_roles})
    roles: tuple[Role, ...] = found.get("roles", ())
    if not roles:
        raise ConfigurationError(
            f"{path} has no roles", fix=f"List 1 to {MAX_ROLES} roles under `roles:`", setting=path
        )
    _check_names(root, path, roles)
    return roles


_policy_arn = Matching(
    r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\x21-\x7e]{1,2000}",
    "the ARN of an IAM policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess",
)
_role_name = Matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
    "1 to 64 letters, digits and _.-, starting with a letter, a digit or _, because the name is part of a path",
)
_source_identity = Matching(r"[A-Za-z0-9_+=,.@-]{2,64}", "2 to 64 letters, digits and _+=,.@-")
_external_id = Matching(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "2 to 1224 letters, digits and _+=,.@:/-")


def _chained_duration(place: Place, node: Node) -> int:
    limits = f"{MIN_DURATION_SECONDS} to {MAX_CHAINED_SECONDS}, the maximum of STS for a chained role"
    return parse_whole_number(str(place), read_text(place, node), MIN_DURATION_SECONDS, MAX_CHAINED_SECONDS, limits)


def _policy(place: Place, node: Node) -> tuple[Place, Any]:
    return place, read_policy(place, node)


_SESSION: Mapping[str, Reader] = {
    "role_arn": ParsedBy(parse_role_arn),
    "session_name": ParsedBy(parse_session_name),
    "policy": _policy,
    "policy_arns": ListOf(_policy_arn, MAX_POLICY_ARNS, "ARNs"),
}
"""The keys that roles and the steps of a chain have in common, with their readers."""

_STEP: Mapping[str, Reader] = {
    **_SESSION,
    "duration": _chained_duration,
    "external_id": _external_id,
    "tags": read_tags,
    "transitive_tags": ListOf(read_text, MAX_TAGS, "keys"),
    "source_identity": _source_identity,
}

_FIELDS = {"duration": "duration_seconds"}
"""The keys whose fields have another name."""


def _chain_step(place: Place, node: Node) -> ChainStep:
    fields = _session(place, node, _STEP)
    if "role_arn" not in fields:
        raise place.error(": this step has no role_arn", fix="Add one")
    step = ChainStep(**fields)
    for key in step.transitive_tags:
        if key not in dict(step.tags):
            raise place.error(f": transitive_tags has {key[:40]!r}, which is not in `tags`", fix="Add it to `tags`")
    return step


def _session(place: Place, node: Node, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """
    Return the fields of a role or step.

    Raises ConfigurationError if a value is invalid, or if the session policy exceeds STS's limits.
    """
    found = read_mapping(place, node, readers)
    where, policy = found.pop("policy", (place, None))
    found["policy"] = parse_session_policy(str(where), policy, found.get("policy_arns", ()))
    return {_FIELDS.get(key, key): value for key, value in found.items()}


def _only_in_a_chain(place: Place, _node: Node) -> Any:
    raise place.error(
        " cannot be sent with a web identity, whose tags and source identity come from the token's claims",
        fix="Put it into a step of `chain`, or remove it",
    )


_ROLE: Mapping[str, Reader] = {
    "name": _role_name,
    **_SESSION,
    "token_file": ParsedBy(parse_token_file),
    "duration": ParsedBy(parse_duration),
    "authorization_token_file": ParsedBy(parse_path),
    "allow_uids": ListOf(read_uid),
    "containers": ListOf(read_text),
    "chain": ListOf(_chain_step, MAX_CHAIN_STEPS, "steps"),
    **dict.fromkeys(("tags", "transitive_tags", "source_identity", "external_id"), _only_in_a_chain),
}


def _role_reader(defaults: RoleDefaults) -> Reader:
    def read(place: Place, node: Node) -> Role:
        own = _session(place, node, _ROLE)
        whole_role = place._replace(key="")
        _check_required(whole_role, own, defaults)
        if "allow_uids" in own:
            own["allow_uids"] = frozenset(own["allow_uids"])
        role = defaults.role(**own)
        if role.chain and role.duration_seconds is None:
            if "duration_seconds" in own:
                problem = (
                    f": role {role.name} has a chain and the duration max, but a chained session lasts an hour at most"
                )
                raise whole_role.error(problem, fix="Set the duration in seconds")
            role = role._replace(duration_seconds=MAX_CHAINED_SECONDS)
        return role

    return read


def _check_required(place: Place, own: Mapping[str, Any], defaults: RoleDefaults) -> None:
    """Raise ConfigurationError if the role lacks a key that it needs."""
    for key in ("name", "role_arn"):
        if key not in own:
            raise place.error(f": this role has no {key}", fix="Add one")
    if "token_file" not in own and defaults.token_file is None:
        raise place.error(
            f": role {own['name']} has no token_file, and AWS_WEB_IDENTITY_TOKEN_FILE is not set",
            fix="Set one of them to the path of the projected service account token",
        )


def _check_names(root: Node, path: str, roles: tuple[Role, ...]) -> None:
    """Raise ConfigurationError if two roles have the same name, because they would share a path."""
    seen: set[str] = set()
    is_bare = isinstance(root, yaml.SequenceNode)
    lists = [root] if is_bare else [value for key, value in root.value if key.value == "roles"]
    lines = [line_of(item) for found in lists for item in found.value]
    for role, line in zip(roles, lines, strict=True):
        if role.name in seen:
            problem = f": an earlier role has the name {role.name} too, and both would be served on the same path"
            raise Place(path, line).error(problem, fix="Change the name of one of them")
        seen.add(role.name)
