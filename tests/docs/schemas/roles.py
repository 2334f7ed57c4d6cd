"""Return the JSON Schema of the roles file. Each reader of the parser has a schema."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.config import roles_file
from sidecar.config.roles_file import MAX_ROLES
from sidecar.config.yaml_values import MAX_TAGS, ListOf, Matching, ParsedBy, Reader, read_tags, read_text, read_uid
from sidecar.role import (
    LONGEST,
    MAX_CHAINED_SECONDS,
    MAX_DURATION_SECONDS,
    MIN_DURATION_SECONDS,
    ROLE_ARN,
    WHOLE_NUMBER,
    parse_duration,
    parse_path,
    parse_role_arn,
    parse_token_file,
)
from sidecar.sts.session_name import ALLOWED, FIELDS, MAX_LENGTH, MIN_LENGTH, parse_session_name
from tests.docs.reference.roles_file_notes import OF_A_ROLE, OF_A_STEP, KeyNote

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_SCALARS = ("string", "number", "boolean")
"""The types of a value that the parser reads as text. `external_id: 123` needs no quotes."""

_FIELD = rf"\{{(?:{'|'.join(FIELDS)})\}}"
_PART = f"(?:[{ALLOWED}]|{_FIELD})*"
_SESSION_NAME = f"[{ALLOWED}]{{{MIN_LENGTH},{MAX_LENGTH}}}|{_PART}{_FIELD}{_PART}"
"""Pattern of a session name, or of a template with at least one field."""


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Schema:
    """Return the schema of a file. The list of roles is under `roles`, or it is the whole text, as in an annotation."""
    roles = {"$ref": "#/$defs/roles"}
    return {
        "$schema": DRAFT,
        "title": "Roles file of irsa-sidecar",
        "if": {"type": "array"},
        "then": roles,
        "else": {
            "type": "object",
            "properties": {"roles": roles},
            "required": ["roles"],
            "additionalProperties": False,
        },
        "$defs": {
            "roles": {"type": "array", "minItems": 1, "maxItems": MAX_ROLES, "items": {"$ref": "#/$defs/role"}},
            "role": _role(),
            "step": _mapping(roles_file._STEP, OF_A_STEP, ["role_arn"]),
        },
    }


def _role() -> Schema:
    has_chain = {"chain": {"type": "array", "minItems": 1}, "duration": {"const": LONGEST}}
    whole = _mapping(roles_file._ROLE, OF_A_ROLE, ["name", "role_arn"])
    return {**whole, "not": {"properties": has_chain, "required": list(has_chain)}}


def _mapping(readers: Mapping[str, Reader], notes: Mapping[str, KeyNote], required: list[str]) -> Schema:
    own = {key: reader for key, reader in readers.items() if reader is not roles_file._only_in_a_chain}
    properties = {key: {"description": _description(notes[key]), **_of(reader)} for key, reader in own.items()}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _description(note: KeyNote) -> str:
    default = "Required" if note.default == "required" else f"Default: {note.default}"
    return f"{note.meaning} Value: {note.form}. {default}."


def _of(reader: Reader) -> Schema:
    match reader:
        case Matching(pattern=pattern):
            return matching(pattern)
        case ListOf(read_item=item, most=most):
            return {"type": "array", "maxItems": most, "items": _of(item)}
        case ParsedBy(check=check):
            return _PARSED[check]
    return _OTHERS[reader]


def matching(pattern: str) -> Schema:
    """Return the schema of text with a pattern. A number or a boolean is also text, unless no such text can match."""
    is_possible = any(re.fullmatch(pattern, scalar) for scalar in ("10", "1.5", "true"))
    return {"type": list(_SCALARS) if is_possible else "string", "pattern": whole(pattern)}


def whole(pattern: str) -> str:
    """Return the pattern for a whole text, because a pattern of JSON Schema can match a part of a text."""
    return f"^(?:{pattern})$"


def _seconds(most: int) -> list[Schema]:
    number = {"type": "integer", "minimum": MIN_DURATION_SECONDS, "maximum": most}
    return [number, {"type": "string", "pattern": whole(WHOLE_NUMBER)}]


_PATH = matching(r"[^\0]+")

_PARSED: Mapping[Callable[[str, str], Any], Schema] = {
    parse_role_arn: matching(ROLE_ARN),
    parse_session_name: matching(_SESSION_NAME),
    parse_path: _PATH,
    parse_token_file: _PATH,
    parse_duration: {"anyOf": [{"const": LONGEST}, *_seconds(MAX_DURATION_SECONDS)]},
}
"""The schema of text, by the function that checks the text."""

_OTHERS: Mapping[Reader, Schema] = {
    read_text: {"type": list(_SCALARS)},
    read_uid: {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
            {"type": "string", "pattern": whole("[0-9]{1,10}")},
        ]
    },
    read_tags: {
        "type": "object",
        "maxProperties": MAX_TAGS,
        "propertyNames": {"minLength": 1, "maxLength": 128},
        "additionalProperties": {"type": list(_SCALARS), "maxLength": 256},
    },
    roles_file._policy: {"type": ["object", "string"]},
    roles_file._chained_duration: {"anyOf": _seconds(MAX_CHAINED_SECONDS)},
    roles_file._chain_step: {"$ref": "#/$defs/step"},
}
"""The schema of the value of each reader that is a function."""
