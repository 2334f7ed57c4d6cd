"""
Check that any bytes in a roles file lead to complete roles or one ConfigurationError.

The error is one line that begins with the file's name. Accepted roles can be sent to STS and served.
"""

import json

from sidecar.config.roles_file import MAX_ROLES, parse_roles
from sidecar.errors import ConfigurationError
from sidecar.role import MAX_POLICY_CHARACTERS, ChainStep, Role, RoleDefaults

PATH = "roles.yaml"
DEFAULTS = RoleDefaults(token_file="/token", session_name=None, duration_seconds=3600)
MAX_MESSAGE_CHARACTERS = 3000


def target(data: bytes) -> None:
    try:
        roles = parse_roles(_as_file_or_annotation(data), PATH, DEFAULTS)
    except ConfigurationError as error:
        is_one_message(str(error), PATH)
    else:
        assert 1 <= len(roles) <= MAX_ROLES
        assert len({role.path for role in roles}) == len(roles)
        for role in roles:
            _can_be_used(role)


def is_one_message(message: str, path: str, most: int = MAX_MESSAGE_CHARACTERS) -> None:
    assert message.startswith(path)
    assert "\n" not in message.replace("\\n", "")
    assert len(message) < most


def _can_be_used(role: Role) -> None:
    role.token_file.encode()
    (role.authorization_token_file or "").encode()
    sessions: list[Role | ChainStep] = [role, *role.chain]
    for session in sessions:
        assert session.role_arn.startswith("arn:aws")
        _policy_is_whole(session)
    for step in role.chain:
        for text in (*dict(step.tags), *dict(step.tags).values(), *step.transitive_tags):
            text.encode()


def _policy_is_whole(session: Role | ChainStep) -> None:
    if session.policy is not None:
        assert len(session.policy) <= MAX_POLICY_CHARACTERS
        assert isinstance(json.loads(session.policy, object_pairs_hook=_once), dict)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _as_file_or_annotation(data: bytes) -> bytes | str:
    """Return data of odd length as the bytes of a file, and data of even length as the string of an annotation."""
    if len(data) % 2:
        return data
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")
