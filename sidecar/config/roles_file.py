"""
Read the roles from a YAML file. An error names its line, and rejects the whole file.

Rules. Tables map each key of a mapping to the reader of its value. An unknown key, a duplicate key and a value of the
wrong kind are errors. Everything except `read_roles_file` is pure. strict_yaml.py parses the text.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from sidecar.errors import ConfigurationError
from sidecar.files import read_regular_file
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
from sidecar.strict_yaml import KEEP_ONE, MAX_DEPTH, MERGE_TAG, Node, appears_twice, compose, line_of, reading
from sidecar.sts.session_name import parse_session_name

MAX_FILE_BYTES = 1024 * 1024
"""The most bytes that a ConfigMap can hold."""

MAX_ROLES = 50
"""The most roles of one file."""

MAX_KEY_CHARACTERS = 100
"""The longest key for which a similar one is suggested."""

MAX_ITEMS = 1000
"""The most items of a list without another limit: users, containers."""

MAX_POLICY_NODES = 1000
"""The most parts of a policy. Aliases can make a small document huge; 2048 characters hold fewer parts."""

MAX_TAGS = 50
"""The most tags (STS API reference, AssumeRole, Tags). A key has up to 128 characters, and a value up to 256."""

_TEXT_TAG = "tag:yaml.org,2002:str"


class Place(NamedTuple):
    """A place in a file. Its text begins a message."""

    path: str
    line: int
    key: str = ""

    def __str__(self) -> str:
        key = self.key[:MAX_KEY_CHARACTERS]
        shown = key if key.isprintable() else ascii(key)  # printable.py would be one more module for `run`
        return f"{self.path}, line {self.line}{': ' + shown if shown else ''}"

    def error(self, problem: str, *, fix: str) -> ConfigurationError:
        """Return an error about this place. The problem starts with a space or a colon."""
        return ConfigurationError(f"{self}{problem}", fix=fix, setting=str(self))


_Read = Callable[[Place, Node], Any]


def read_roles_file(path: str, defaults: RoleDefaults) -> tuple[Role, ...]:
    """Read the roles of the file at `path`. Raises ConfigurationError."""
    try:
        content = read_regular_file(path, MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigurationError(
            f"IRSA_SIDECAR_CONFIG is {path}, which cannot be read ({exc.strerror or exc})",
            fix="Check that the volume is mounted there",
            setting="IRSA_SIDECAR_CONFIG",
        ) from exc
    if content is None or len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"IRSA_SIDECAR_CONFIG is {path}, which is not a file of at most {MAX_FILE_BYTES} bytes",
            fix="Name a YAML file of roles",
            setting="IRSA_SIDECAR_CONFIG",
        )
    return parse_roles(content, path, defaults)


def parse_roles(
    content: bytes | str, path: str, defaults: RoleDefaults, max_depth: int = MAX_DEPTH
) -> tuple[Role, ...]:
    """
    Parse the roles in the text of a file. Messages name it `path`. Raises ConfigurationError.

    The list is under `roles:`, or is the whole text, as in a Pod's annotation.
    """
    with reading(path):
        root = compose(content, path, max_depth=max_depth)
        if root is None:
            raise ConfigurationError(f"{path} is empty", fix="Give it `roles:` and a list", setting=path)
        return _roles_of(root, path, defaults)


def _roles_of(root: Node, path: str, defaults: RoleDefaults) -> tuple[Role, ...]:
    place, read_roles = Place(path, line_of(root)), _list_of(_role_reader(defaults), MAX_ROLES, "roles")
    is_bare = isinstance(root, yaml.SequenceNode)
    found = {"roles": read_roles(place, root)} if is_bare else _mapping(place, root, {"roles": read_roles})
    roles: tuple[Role, ...] = found.get("roles", ())
    if not roles:
        raise ConfigurationError(
            f"{path} has no roles", fix=f"Give 1 to {MAX_ROLES} roles under `roles:`", setting=path
        )
    _check_names(root, path, roles)
    return roles


# Kinds of values


def _mapping(place: Place, node: Node, readers: Mapping[str, _Read]) -> dict[str, Any]:
    """Return the values of a mapping, each read by the reader of its key."""
    if not isinstance(node, yaml.MappingNode):
        raise place.error(" is not a mapping", fix=f"Give {', '.join(f'`{key}:`' for key in readers)}")
    found: dict[str, Any] = {}
    for key_node, value in node.value:
        key = _key(place, key_node)
        where = Place(place.path, line_of(key_node), key[:MAX_KEY_CHARACTERS])
        if key not in readers:
            raise where.error(" is not a setting", fix=_nearest(key, readers))
        found[key] = readers[key](where, value)
    return found


def _key(place: Place, node: Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise Place(place.path, line_of(node)).error(": the key is not a word", fix="Write a word before the colon")
    if node.tag == MERGE_TAG:
        where = Place(place.path, line_of(node))
        raise where.error(": the merge key << is not supported", fix="Write its keys out")
    return str(node.value)


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key[:MAX_KEY_CHARACTERS], known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(known)}"


def _list_of(read_item: _Read, most: int = MAX_ITEMS, what: str = "items") -> _Read:
    """Return a reader of a list. It counts the items before it reads any, because aliases can repeat them often."""

    def read(place: Place, node: Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise place.error(" is not a list", fix="Start each item with `- `")
        if len(node.value) > most:
            raise place.error(f" has {len(node.value)} {what}", fix=f"Give at most {most}")
        return tuple(read_item(Place(place.path, line_of(item), place.key), item) for item in node.value)

    return read


def _text(place: Place, node: Node) -> str:
    """Return the text of a scalar. Numbers are allowed, because YAML reads an external id of digits as a number."""
    if not isinstance(node, yaml.ScalarNode) or node.tag.endswith((":null", ":binary")):
        raise place.error(" is not text", fix="Give one value")
    return str(node.value)


def _checked(check: Callable[[str, str], Any]) -> _Read:
    return lambda place, node: check(str(place), _text(place, node))


def _matching(pattern: str, wanted: str) -> _Read:
    compiled = re.compile(pattern)

    def read(place: Place, node: Node) -> str:
        text = _text(place, node)
        if compiled.fullmatch(text) is None:
            raise place.error(f" is {text[:100]!r}, which is not valid", fix=f"Give {wanted}")
        return text

    return read


def _uid(place: Place, node: Node) -> int:
    text = _text(place, node)
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= 2**32:
        raise place.error(f" has {text[:20]!r}, which is not a user id", fix="Give numeric user ids, as in runAsUser")
    return int(text)


def _policy(place: Place, node: Node) -> Any:
    """Return a policy as plain values. It is a mapping, or a text with JSON or YAML."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT_TAG:
        policy = _policy_in_text(place, node)
    else:
        policy = _plain(place, node, [MAX_POLICY_NODES])
    if not isinstance(policy, dict):
        raise place.error(" is not a policy", fix="Give a mapping with Version and Statement")
    return policy


def _policy_in_text(place: Place, node: yaml.ScalarNode) -> Any:
    """Return the policy in a text. YAML covers JSON except for tabs and escaped slashes; for these JSON is parsed."""
    # In a block scalar (`|`) the lines of the text are lines of the file, after the line of the `|`.
    is_block = node.style == "|"
    where = f"{place.path}: {place.key}" if is_block else f"{place}, in its text"
    try:
        inner = compose(node.value, where, first_line=line_of(node) + 1 if is_block else 1)
    except ConfigurationError:
        if "\\/" not in node.value and "\t" not in node.value:
            raise
        return _policy_in_json(place, node.value)
    return None if inner is None else _plain(place, inner, [MAX_POLICY_NODES])


def _policy_in_json(place: Place, text: str) -> Any:
    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise place.error(f": {appears_twice(key)}", fix=KEEP_ONE)
            seen.add(key)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_int=_whole_number, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise place.error(" is text that is not JSON", fix="Give the policy as a mapping") from exc


def _plain(place: Place, node: Node, left: list[int]) -> Any:
    """Convert a node to the types of JSON. Dates stay text, so `Version: 2012-10-17` needs no quotes."""
    left[0] -= 1
    if left[0] < 0:
        raise place.error(f" has more than {MAX_POLICY_NODES} parts", fix="Shorten it")
    if isinstance(node, yaml.MappingNode):
        return {_key(place, key): _plain(place, value, left) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(place, item, left) for item in node.value]
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in {"true", "yes", "on"}
    return _whole_number(node.value) if kind == "int" else str(node.value)


def _whole_number(text: str) -> int | str:
    """Return the number, or the text if it has other characters than digits, or too many for other programs."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text


def _tags(place: Place, node: Node) -> tuple[tuple[str, str], ...]:
    if not isinstance(node, yaml.MappingNode) or len(node.value) > MAX_TAGS:
        raise place.error(f" is not a mapping of at most {MAX_TAGS} keys", fix="Give each tag as `key: value`")
    tags = []
    for key_node, value_node in node.value:
        key, value = _key(place, key_node), _text(place, value_node)
        if not 1 <= len(key) <= 128 or len(value) > 256:
            where = Place(place.path, line_of(key_node), place.key)
            limits = "Give a key of 1 to 128 characters and a value of at most 256"
            raise where.error(f": the tag {key[:40]!r} is empty or too long", fix=limits)
        tags.append((key, value))
    if len({key.casefold() for key, _ in tags}) < len(tags):
        raise place.error(" has one key twice, because STS ignores their case", fix="Keep one of them")
    return tuple(tags)


# Roles

_policy_arn = _matching(
    r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\x21-\x7e]{1,2000}",
    "the ARN of an IAM policy, as arn:aws:iam::aws:policy/ReadOnlyAccess",
)
_role_name = _matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
    "1 to 64 letters, digits and _.-, as it stands in a path, starting with a letter or digit",
)
_source_identity = _matching(r"[A-Za-z0-9_+=,.@-]{2,64}", "2 to 64 letters, digits and _+=,.@-")
_external_id = _matching(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "2 to 1224 letters, digits and _+=,.@:/-")


def _chained_duration(place: Place, node: Node) -> int:
    limits = f"{MIN_DURATION_SECONDS} to {MAX_CHAINED_SECONDS}, the most that IAM gives a chained role"
    return parse_whole_number(str(place), _text(place, node), MIN_DURATION_SECONDS, MAX_CHAINED_SECONDS, limits)


_SESSION: Mapping[str, _Read] = {
    "role_arn": _checked(parse_role_arn),
    "session_name": _checked(parse_session_name),
    "policy": lambda place, node: (place, _policy(place, node)),
    "policy_arns": _list_of(_policy_arn, MAX_POLICY_ARNS, "ARNs"),
}
"""The keys that a role and a step of its chain have in common."""

_STEP: Mapping[str, _Read] = {
    **_SESSION,
    "duration": _chained_duration,
    "external_id": _external_id,
    "tags": _tags,
    "transitive_tags": _list_of(_text, MAX_TAGS, "keys"),
    "source_identity": _source_identity,
}

_FIELDS = {"duration": "duration_seconds"}
"""The fields whose keys have another name."""


def _chain_step(place: Place, node: Node) -> ChainStep:
    fields = _session(place, node, _STEP)
    if "role_arn" not in fields:
        raise place.error(": this step has no role_arn", fix="Add one")
    step = ChainStep(**fields)
    for key in step.transitive_tags:
        if key not in dict(step.tags):
            raise place.error(f": transitive_tags has {key[:40]!r}, which is not in `tags`", fix="Add it to `tags`")
    return step


def _session(place: Place, node: Node, readers: Mapping[str, _Read]) -> dict[str, Any]:
    """Return the fields of a role or step, with a session policy within STS's limits."""
    found = _mapping(place, node, readers)
    where, policy = found.pop("policy", (place, None))
    found["policy"] = parse_session_policy(str(where), policy, found.get("policy_arns", ()))
    return {_FIELDS.get(key, key): value for key, value in found.items()}


def _only_in_a_chain(place: Place, _node: Node) -> Any:
    raise place.error(
        " cannot be sent with a web identity, whose tags and source identity come from the token's claims",
        fix="Put it into a step of `chain`, or remove it",
    )


_ROLE: Mapping[str, _Read] = {
    "name": _role_name,
    **_SESSION,
    "token_file": _checked(parse_token_file),
    "duration": _checked(parse_duration),
    "authorization_token_file": _checked(parse_path),
    "allow_uids": _list_of(_uid),
    "containers": _list_of(_text),
    "chain": _list_of(_chain_step, MAX_CHAIN_STEPS, "steps"),
    **dict.fromkeys(("tags", "transitive_tags", "source_identity", "external_id"), _only_in_a_chain),
}


def _role_reader(defaults: RoleDefaults) -> _Read:
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
                raise whole_role.error(problem, fix="Give the duration in seconds")
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
            raise Place(path, line).error(problem, fix="Give one of them another name")
        seen.add(role.name)
