"""Test the output formats with independent parsers."""

import json
import re
from typing import Any

import hcl2
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.printable import printable
from sidecar.setup.output_formats import FORMATS
from sidecar.setup.resources import IamRole, OidcProvider
from sidecar.setup.trust_policy import TrustGrant, with_grant
from tests.unit.setup.conftest import ISSUER, Offline

POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
BOUNDARY = "arn:aws:iam::111122223333:policy/edge"
GRANT = TrustGrant(
    "arn:aws:iam::111122223333:oidc-provider/oidc.example.com",
    "https://oidc.example.com",
    "sts.amazonaws.com",
    ("system:serviceaccount:shop:cart", "system:serviceaccount:shop:till"),
)
ROLE = IamRole(
    "arn:aws:iam::111122223333:role/pods/cart",
    "cart",
    "/pods/",
    with_grant(None, GRANT),
    7200,
    BOUNDARY,
    (POLICY, BOUNDARY),
    {"team": "shop", "with space": "1"},
)
PROVIDER = OidcProvider(GRANT.provider_arn, GRANT.issuer, ("sts.amazonaws.com", "vault"), ("0" * 40,), {"team": "shop"})


def value_of(parsed: Any) -> Any:
    """Return the Terraform value for a result of python-hcl2, which keeps quotes, escapes and function calls."""
    if isinstance(parsed, list):
        return [value_of(item) for item in parsed]
    if isinstance(parsed, dict):
        return {_text(key): value_of(item) for key, item in parsed.items() if not key.startswith("__")}
    if isinstance(parsed, str) and (call := re.fullmatch(r"\$\{jsonencode\((.*)\)\}", parsed, re.DOTALL)):
        return value_of(hcl2.loads(f"x = {call[1]}\n")["x"])
    return _text(parsed) if isinstance(parsed, str) else parsed


def _text(literal: str) -> str:
    if not literal.startswith('"'):
        return literal
    assert not re.search(r"(?<!\$)\$\{|(?<!%)%\{", literal), "a template that Terraform would evaluate"
    text: str = json.loads(literal.replace("$${", "${").replace("%%{", "%{"))
    return text


def blocks(text: str) -> list[tuple[str, str, Any]]:
    """Return the kind, the name and the arguments of each resource."""
    found = []
    for block in hcl2.loads(text)["resource"]:
        ((kind, named),) = block.items()
        ((name, arguments),) = named.items()
        found.append((_text(kind), _text(name), value_of(arguments)))
    return found


def test_terraform_contains_the_role_and_each_attachment() -> None:
    role, *attachments = blocks(FORMATS["terraform"](ROLE))
    assert role == (
        "aws_iam_role",
        "cart",
        {
            "name": "cart",
            "path": "/pods/",
            "max_session_duration": 7200,
            "permissions_boundary": BOUNDARY,
            "assume_role_policy": ROLE.trust_policy,
            "tags": ROLE.tags,
        },
    )
    reference = "${aws_iam_role.cart.name}"
    assert attachments == [
        ("aws_iam_role_policy_attachment", "cart_ReadOnlyAccess", {"role": reference, "policy_arn": POLICY}),
        ("aws_iam_role_policy_attachment", "cart_edge", {"role": reference, "policy_arn": BOUNDARY}),
    ]


def test_terraform_contains_each_inline_policy() -> None:
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
    }
    _, inline = blocks(FORMATS["terraform"](IamRole("arn", "cart", "/", {}, inline_policies={"chain-1": document})))
    arguments = {"name": "chain-1", "role": "${aws_iam_role.cart.name}", "policy": document}
    assert inline == ("aws_iam_role_policy", "cart_chain-1", arguments)


def test_terraform_contains_the_provider() -> None:
    assert blocks(FORMATS["terraform"](PROVIDER)) == [
        (
            "aws_iam_openid_connect_provider",
            "oidc_example_com",
            {
                "url": "https://oidc.example.com",
                "client_id_list": ["sts.amazonaws.com", "vault"],
                "thumbprint_list": ["0" * 40],
                "tags": {"team": "shop"},
            },
        )
    ]


# python-hcl2 accepts an escaped template only with its closing brace.
_PIECES = [
    "a",
    "1",
    "$",
    "%",
    "{",
    "}",
    "${x}",
    "$${x}",
    "%{if x}",
    '"',
    "\\",
    "\n",
    "\t",
    "\b",
    "\f",
    "\x7f",
    "é☃ ~#",
    "\x9b\xa0",
]
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=5).map(" ".join)
_VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9999) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30)
@given(st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=3), min_size=1, max_size=3), st.dictionaries(_TEXTS, _TEXTS))
def test_terraform_never_reads_text_as_an_expression(statements: Any, tags: dict[str, str]) -> None:
    document = {"Version": "2012-10-17", "Statement": statements}
    ((_, _, arguments),) = blocks(FORMATS["terraform"](IamRole("arn", "cart", "/", document, tags=tags)))
    assert arguments["assume_role_policy"] == document
    assert arguments.get("tags", {}) == tags


@pytest.mark.parametrize("name", ["cart", "0cart", "a.b@c", "-x", "=", "cart/x"])
def test_every_role_has_a_valid_terraform_name(name: str) -> None:
    ((_, label, _),) = blocks(FORMATS["terraform"](IamRole("arn", name, "/", ROLE.trust_policy)))
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", label)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", ["\x9b31m", "\x1b]0;x\x07", "\x7f", "a\rb"])
def test_no_format_writes_a_control_character(name: str, text: str) -> None:
    role = IamRole("arn", "cart", "/", {"Version": "2012-10-17", "Statement": [{"Sid": text}]}, tags={text: text})
    written = FORMATS[name](role)
    assert printable(written, keep="\n") == written


@settings(max_examples=30)
@given(st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=3), max_size=3), st.dictionaries(_TEXTS, _TEXTS))
def test_json_and_yaml_have_the_same_document(statements: Any, tags: dict[str, str]) -> None:
    role = IamRole("arn", "cart", "/", {"Version": "2012-10-17", "Statement": statements}, tags=tags)
    assert json.loads(FORMATS["json"](role)) == role.document()
    assert yaml.safe_load(FORMATS["yaml"](role)) == role.document()


def test_template_uses_the_names_of_cloudformation() -> None:
    role = yaml.safe_load(FORMATS["cloudformation"](ROLE))["Resources"]["Role"]
    assert role["Type"] == "AWS::IAM::Role"
    assert set(role["Properties"]) == {
        "RoleName",
        "Path",
        "MaxSessionDuration",
        "AssumeRolePolicyDocument",
        "PermissionsBoundary",
        "ManagedPolicyArns",
        "Tags",
    }
    provider = yaml.safe_load(FORMATS["cloudformation"](PROVIDER))["Resources"]["OidcProvider"]
    assert provider["Type"] == "AWS::IAM::OIDCProvider"
    assert set(provider["Properties"]) == {"Url", "ClientIdList", "ThumbprintList", "Tags"}


def test_every_format_prints_the_document_without_a_message(offline: Offline) -> None:
    for output in FORMATS:
        done = offline("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart", output=output)
        assert (done.status, done.err) == (0, "")
        assert "system:serviceaccount:shop:cart" in done.out
