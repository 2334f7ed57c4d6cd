"""
Describe the parts of SARIF 2.1.0 that the report uses.

The standard's own schema has 3,000 lines. This extract has the same names, types and required properties, and rejects
every property that it does not name (OASIS, SARIF 2.1.0, sections 3.13 to 3.52).
"""

from typing import Any

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_RULE = _object(
    ["id", "shortDescription", "fullDescription", "helpUri", "defaultConfiguration"],
    id={"type": "string"},
    shortDescription=_TEXT,
    fullDescription=_TEXT,
    helpUri={"type": "string", "format": "uri"},
    defaultConfiguration=_object(["level"], level={"enum": ["none", "note", "warning", "error"]}),
)
_LOCATION = _object(
    ["physicalLocation", "logicalLocations"],
    physicalLocation=_object(
        ["artifactLocation", "region"],
        artifactLocation=_object(["uri"], uri={"type": "string", "pattern": "^[A-Za-z0-9%._~/-]+$"}),
        region=_object(["startLine"], startLine={"type": "integer", "minimum": 1}),
    ),
    logicalLocations={
        "type": "array",
        "items": _object(
            ["name"], name={"type": "string"}, fullyQualifiedName={"type": "string"}, kind={"type": "string"}
        ),
    },
)
_RESULT = _object(
    ["ruleId", "level", "message", "locations", "partialFingerprints"],
    ruleId={"type": "string"},
    level={"enum": ["none", "note", "warning", "error"]},
    message=_TEXT,
    locations={"type": "array", "items": _LOCATION, "minItems": 1},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    baselineState={"enum": ["new", "unchanged", "updated", "absent"]},
    suppressions={"type": "array", "items": _object(["kind"], kind={"enum": ["inSource", "external"]})},
)
SARIF_PARTS = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                ["tool", "results"],
                tool=_object(
                    ["driver"],
                    driver=_object(
                        ["name", "version", "rules"],
                        name={"type": "string"},
                        version={"type": "string"},
                        rules={"type": "array", "items": _RULE},
                    ),
                ),
                columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                results={"type": "array", "items": _RESULT},
            ),
        },
    },
    "additionalProperties": False,
}
