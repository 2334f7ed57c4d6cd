"""Return the JSON Schema of the file of `irsa-sidecar local`. Each reader of the parser has a schema."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sidecar.local import config
from sidecar.local.config import ListOf, LocalConfig, Matching, Number, ProviderSettings, RoleSettings
from tests.docs.schemas.local_notes import OF_A_PROVIDER, OF_A_ROLE, SETTINGS
from tests.docs.schemas.roles import DRAFT, Schema, whole


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Schema:
    """Return the schema of a file. An empty file is valid too, because every setting is optional."""
    one_of = [{"required": ["name"]}, {"required": ["arn"]}]
    settings = _mapping(LocalConfig, SETTINGS)
    settings["properties"]["roles"]["minItems"] = 1
    return {
        "$schema": DRAFT,
        "title": "Configuration file of irsa-sidecar local",
        **settings,
        "type": ["object", "null"],
        "$defs": {
            "role": {**_mapping(RoleSettings, OF_A_ROLE), "oneOf": one_of},
            "provider": _mapping(ProviderSettings, OF_A_PROVIDER),
        },
    }


def _mapping(kind: type[Any], notes: Mapping[str, str]) -> Schema:
    own = {item.name: item for item in fields(kind) if "read" in item.metadata}
    required = [name for name, item in own.items() if item.default is MISSING]
    properties = {
        name: {"description": notes[name], **_default(item.default), **_of(item.metadata["read"])}
        for name, item in own.items()
    }
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _default(value: object) -> Schema:
    """Return the default of a setting with one value."""
    return {"default": value} if isinstance(value, (str, int)) else {}


def _of(reader: Any) -> Schema:
    match reader:
        case Matching(pattern=pattern):
            return {"type": "string", "pattern": whole(pattern)}
        case Number(low=low, high=high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case ListOf(read_item=item):
            return {"type": "array", "items": _of(item)}
    return _OTHERS[reader]


_OTHERS: Mapping[Any, Schema] = {
    config._mapping: {"type": "object"},
    config._path: _of(config._text),
    config._url: _of(config._url_text),
    config._role: {"$ref": "#/$defs/role"},
    config._provider: {"$ref": "#/$defs/provider"},
}
"""The schema of the value of each reader that is a function."""
