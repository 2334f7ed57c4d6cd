"""
Read the parameters of a request, and check them against the limits in AWS's service model.

The model (botocore's `sts/2011-06-15`) is the table of limits. This module applies the limits, and contains the texts
with which STS rejects a parameter. Pure, after the model is loaded. Rule: one error names all violations, and never a
sensitive value.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape

from sidecar.oidc.sts_rejection import StsRejection, validation_error

API_VERSION = "2011-06-15"
OPERATIONS = ("AssumeRoleWithWebIdentity", "AssumeRole", "GetCallerIdentity")

_MAX_LIST_ITEMS = 1000
"""Maximum index of a list member in AWS's Query protocol. Members with a larger index are ignored."""

Parameters = Mapping[str, Any]
"""Parameters by their names in the model, without those that the client did not send."""


def load_shapes() -> dict[str, StructureShape]:
    """Return the input shape of each operation, from botocore's data files."""
    model = ServiceModel(Loader().load_service_model("sts", "service-2", API_VERSION), "sts")
    return {name: model.operation_model(name).input_shape or StructureShape(name, {}) for name in OPERATIONS}


def parse_form(text: str) -> dict[str, str]:
    """Parse `application/x-www-form-urlencoded` text. If a name appears twice, the last value is used."""
    return dict(parse_qsl(text, keep_blank_values=True))


def operation_name(form: Mapping[str, str]) -> str:
    """
    Return the name of the requested operation.

    Raises StsRejection if the form names no operation, one that is not in OPERATIONS, or another version (STS API
    reference, Common Errors).
    """
    action = form.get("Action")
    if not action:
        raise StsRejection("MissingAction", "Missing Action")
    version = form.get("Version") or "NO_VERSION_SPECIFIED"
    if action not in OPERATIONS or version != API_VERSION:
        raise StsRejection(
            "InvalidAction",
            f"Could not find operation {action} for version {version}",
            reason=f"{action} of version {version} is not supported here. Use {', '.join(OPERATIONS)} of {API_VERSION}",
        )
    return action


def read_parameters(shape: StructureShape, form: Mapping[str, str]) -> Parameters:
    """
    Return the parameters that the shape defines, read from the form's fields. Other fields are ignored.

    Raises StsRejection, which lists all violations, if a parameter is missing or violates a limit.
    """
    parameters = _structure(shape, form, "")
    violations = list(_violations(shape, parameters, ""))
    if violations:
        count = f"{len(violations)} validation error{'s' if len(violations) > 1 else ''} detected: "
        raise validation_error(count + "; ".join(violations))
    return parameters


def _structure(shape: StructureShape, form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    values = {name: _value(member, form, prefix + name) for name, member in shape.members.items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(shape: Shape, form: Mapping[str, str], key: str) -> Any:
    if isinstance(shape, ListShape):
        return list(_items(shape, form, key)) or None
    if isinstance(shape, StructureShape):
        return _structure(shape, form, f"{key}.") or None
    return form.get(key)


def _items(shape: ListShape, form: Mapping[str, str], key: str) -> Iterator[Any]:
    for number in range(1, _MAX_LIST_ITEMS + 1):
        item = _value(shape.member, form, f"{key}.member.{number}")
        if item is None:
            return
        yield item


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _structure_violations(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from (_violation(shape, value, path, rule) for rule in _length_rules(shape, value))
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "integer":
        yield from (_violation(shape, value, path, rule) for rule in _number_rules(shape, value))
    else:
        yield from (_violation(shape, value, path, rule) for rule in _text_rules(shape, value))


def _structure_violations(shape: StructureShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        where = f"{path}.{_camel(name)}" if path else _camel(name)
        if name in value:
            yield from _violations(member, value[name], where)
        elif name in shape.required_members:
            yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"


def _violation(shape: Shape, value: Any, path: str, rule: str) -> str:
    shown = "Value" if shape.metadata.get("sensitive") else f"Value '{value}'"
    return f"{shown} at '{path}' failed to satisfy constraint: Member must {rule}"


def _length_rules(shape: Shape, value: Any) -> Iterable[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"have length less than or equal to {shape.metadata['max']}"
    if len(value) < shape.metadata.get("min", 0):
        yield f"have length greater than or equal to {shape.metadata['min']}"


def _text_rules(shape: Shape, value: str) -> Iterable[str]:
    yield from _length_rules(shape, value)
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield f"satisfy regular expression pattern: {pattern}"


def _number_rules(shape: Shape, value: str) -> Iterable[str]:
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", value):
        yield "be a whole number"
    elif int(value) > shape.metadata.get("max", int(value)):
        yield f"have value less than or equal to {shape.metadata['max']}"
    elif int(value) < shape.metadata.get("min", int(value)):
        yield f"have value greater than or equal to {shape.metadata['min']}"


def _compiled(pattern: str) -> re.Pattern[str]:
    r"""Compile a Java pattern for Python. `\w` is ASCII unless the pattern names Unicode's letters and numbers."""
    if r"\p{" not in pattern:
        return re.compile(pattern, re.ASCII)
    return re.compile(pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", "").replace(r"\p{Z}", r"\s"))


def _camel(name: str) -> str:
    return name[0].lower() + name[1:]
