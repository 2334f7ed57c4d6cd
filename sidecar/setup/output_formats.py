"""
Write a resource as text: JSON or YAML with the API's names, Terraform, or CloudFormation. Pure.

Rule: no format interprets a part of a value as an expression. Texts are quoted, and Terraform's `${` and `%{` are
escaped. Control characters are escaped, because a policy may contain them, up to U+009F.
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import yaml

from sidecar.printable import printable_json
from sidecar.setup.resources import IamRole, OidcProvider, Resource


def as_json(resource: Resource) -> str:
    return printable_json(json.dumps(resource.document(), indent=2, ensure_ascii=False)) + "\n"


def as_yaml(resource: Resource) -> str:
    return _yaml(resource.document())


def as_terraform(resource: Resource) -> str:
    """Return HCL for the `hashicorp/aws` provider."""
    if isinstance(resource, IamRole):
        return _terraform_role(resource)
    assert isinstance(resource, OidcProvider)
    return _block(
        "aws_iam_openid_connect_provider",
        _label(resource.issuer.partition("://")[2]),
        url=resource.issuer,
        client_id_list=list(resource.audiences),
        thumbprint_list=list(resource.thumbprints),
        tags=dict(resource.tags),
    )


def as_cloudformation(resource: Resource) -> str:
    """Return a template that contains only this resource. A role's template requires CAPABILITY_NAMED_IAM."""
    document = resource.document()
    if isinstance(resource, IamRole):
        name, kind = "Role", "AWS::IAM::Role"
    else:
        name, kind = "OidcProvider", "AWS::IAM::OIDCProvider"
        document["ClientIdList"] = document.pop("ClientIDList")
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": {name: {"Type": kind, "Properties": document}}}
    return _yaml(template)


FORMATS: Mapping[str, Callable[[Resource], str]] = {
    "json": as_json,
    "yaml": as_yaml,
    "terraform": as_terraform,
    "cloudformation": as_cloudformation,
}


def _terraform_role(role: IamRole) -> str:
    label = _label(role.name)
    blocks = [
        _block(
            "aws_iam_role",
            label,
            name=role.name,
            path=role.path,
            max_session_duration=role.max_session_seconds,
            permissions_boundary=role.boundary_arn,
            assume_role_policy=_Expression(f"jsonencode({_hcl(role.trust_policy, 1)})"),
            tags=dict(role.tags),
        )
    ]
    for arn in role.policy_arns:
        name = _label(f"{role.name}_{arn.rpartition('/')[2]}")
        reference = _Expression(f"aws_iam_role.{label}.name")
        blocks.append(_block("aws_iam_role_policy_attachment", name, role=reference, policy_arn=arn))
    for policy_name, document in role.inline_policies.items():
        blocks.append(
            _block(
                "aws_iam_role_policy",
                _label(f"{role.name}_{policy_name}"),
                name=policy_name,
                role=_Expression(f"aws_iam_role.{label}.name"),
                policy=_Expression(f"jsonencode({_hcl(document, 1)})"),
            )
        )
    return "\n".join(blocks)


class _Expression(str):
    """An HCL expression that is written without quotes."""

    __slots__ = ()


def _block(kind: str, label: str, **arguments: Any) -> str:
    present = {name: value for name, value in arguments.items() if value not in (None, [], {})}
    return "\n".join([f'resource "{kind}" "{label}" {{', *_assignments(present, 1), "}", ""])


def _assignments(values: Mapping[str, Any], depth: int) -> list[str]:
    """
    Return `name = value` for each value, indented for the depth and formatted like `terraform fmt`.

    The equals signs of adjacent lines are aligned, except next to a value with several lines.
    """
    written = [(name if _IDENTIFIER.fullmatch(name) else _quoted(name), _hcl(values[name], depth)) for name in values]
    lines: list[str] = []
    for is_long, group in groupby(written, lambda item: "\n" in item[1]):
        items = [*group]
        width = 0 if is_long else max(len(name) for name, _ in items)
        lines += [f"{'  ' * depth}{name:{width}} = {value}" for name, value in items]
    return lines


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _hcl(value: Any, depth: int) -> str:
    """Return a JSON value as an HCL expression. The lines after the first are indented for the depth."""
    if isinstance(value, _Expression):
        return value
    indent = "  " * depth
    if isinstance(value, Mapping):
        return "\n".join(["{", *_assignments(value, depth + 1), f"{indent}}}"]) if value else "{}"
    if isinstance(value, list):
        items = ",\n".join(f"{indent}  {_hcl(item, depth + 1)}" for item in value)
        return f"[\n{items},\n{indent}]" if len(value) > 1 else f"[{_hcl(value[0], depth)}]" if value else "[]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Return an HCL quoted template. HCL accepts JSON's escapes except two. `${` and `%{` are escaped."""
    quoted = re.sub(r"\\(.)", lambda match: _NOT_IN_HCL.get(match[1], match[0]), json.dumps(text, ensure_ascii=False))
    return _NOT_ASCII.sub(_hcl_escape, quoted.replace("${", "$${").replace("%{", "%%{"))


_NOT_ASCII = re.compile("[^ -~]")


def _hcl_escape(match: re.Match[str]) -> str:
    """Return the character, or an escape if a terminal would interpret, hide or reorder the character."""
    code = ord(match[0])
    return match[0] if match[0].isprintable() else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_NOT_IN_HCL = {"b": r"\u0008", "f": r"\u000c"}


def _label(text: str) -> str:
    """Return a valid Terraform name: letters, digits, _ and -, beginning with a letter or _."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return label if _IDENTIFIER.fullmatch(label) else f"_{label}"


def _yaml(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
