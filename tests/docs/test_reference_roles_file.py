"""Check that the reference has every key of the roles file, with values that the parser accepts."""

from collections.abc import Mapping

import pytest
import yaml

from sidecar.config.roles_file import _ROLE, _STEP, parse_roles
from sidecar.errors import ConfigurationError
from sidecar.role import RoleDefaults
from tests.docs.reference.roles_file import EXAMPLE
from tests.docs.reference.roles_file_notes import OF_A_ROLE, OF_A_STEP, KeyNote

ROLE = {"name": "other", "role_arn": "arn:aws:iam::111122223333:role/other"}
DEFAULTS = RoleDefaults(token_file="token")
OF_BOTH = [*(("role", *each) for each in OF_A_ROLE.items()), *(("step", *each) for each in OF_A_STEP.items())]


def test_every_key_is_described() -> None:
    assert list(OF_A_ROLE) == list(_ROLE)
    assert list(OF_A_STEP) == list(_STEP)


def parse(kind: str, name: str, value: str) -> object:
    """
    Parse a file whose role or step has this key.

    Raises ConfigurationError if the value is invalid.
    """
    own = {name: yaml.safe_load(value)}
    if name == "transitive_tags":
        own["tags"] = {"team": "data"}
    step = {"role_arn": "arn:aws:iam::444455556666:role/data"}
    role: Mapping[str, object] = {**ROLE, **own} if kind == "role" else {**ROLE, "chain": [{**step, **own}]}
    return parse_roles(yaml.safe_dump({"roles": [role]}), "roles.yaml", DEFAULTS)


@pytest.mark.parametrize(("kind", "name", "note"), OF_BOTH, ids=lambda each: each if isinstance(each, str) else "")
def test_key_accepts_its_example_and_rejects_a_wrong_value(kind: str, name: str, note: KeyNote) -> None:
    if note.example:
        parse(kind, name, note.example)
    with pytest.raises(ConfigurationError):
        parse(kind, name, note.rejected)


def test_example_file_is_accepted() -> None:
    roles = parse_roles(EXAMPLE.read_bytes(), "roles.yaml", DEFAULTS)
    assert len(roles) > 1
