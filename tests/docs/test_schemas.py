"""
Check that the JSON Schemas and the parsers judge files alike.

A schema accepts each file that the parser accepts. If only the schema accepts a file, the reason is one of the listed
rules. The schemas are judged with the regular expressions of JSON Schema (ECMA-262), as in an editor.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import regress
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend, validator_for

from sidecar import cli, strict_yaml
from sidecar.commands.schema import KINDS
from sidecar.config.roles_file import parse_roles
from sidecar.errors import ConfigurationError
from sidecar.local.config import LocalConfig, parse_config
from sidecar.role import RoleDefaults
from tests.docs.reference.pages import ROOT
from tests.docs.reference.roles_file_notes import OF_A_ROLE, OF_A_STEP, KeyNote
from tests.docs.schemas import local, roles
from tests.docs.schemas.rules import LOCAL, ROLES, Rule

ARN = "arn:aws:iam::111122223333:role/app"
WITH_TOKEN = RoleDefaults(token_file="/token")
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and regress.Regex(pattern, "u").find(value) is None:
        yield ValidationError(f"{value!r} does not match {pattern}")


VALIDATORS = {
    name: extend(Draft202012Validator, {"pattern": _pattern})(module.schema())
    for name, module in {"roles": roles, "local": local}.items()
}


def refusal(kind: str, text: str, defaults: RoleDefaults = WITH_TOKEN) -> str | None:
    """Return the parser's message, or None if the parser accepts the text."""
    try:
        parse_roles(text, "f", defaults) if kind == "roles" else parse_config(text, "f")
    except ConfigurationError as exc:
        return str(exc)
    return None


def as_json(value: Any) -> Any:
    """Return a value of YAML as JSON has it, in which keys are text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list) else value


def as_text(value: Any) -> Any:
    """Return the value with text instead of numbers and booleans, as the parser of the roles reads them."""
    if isinstance(value, dict):
        return {key: as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return json.dumps(value) if isinstance(value, (int, float)) else value


def accepts(kind: str, document: Any) -> bool:
    """Return whether the schema accepts the document, also with text instead of numbers if the parser reads text."""
    validator = VALIDATORS[kind]
    return validator.is_valid(document) and (kind == "local" or validator.is_valid(as_text(document)))


def judge(kind: str, text: str, document: Any) -> bool:
    """Check that schema and parser judge the text alike. Return whether the parser accepts it."""
    message = refusal(kind, text)
    if message is None:
        errors = [each.message for each in VALIDATORS[kind].iter_errors(document)]
        assert errors == [], text
    elif accepts(kind, document):
        assert any(rule.message and re.search(rule.message, message) for rule in (ROLES if kind == "roles" else LOCAL))
    return message is None


# Listed rules


@pytest.mark.parametrize("rule", ROLES, ids=lambda rule: rule.text)
def test_only_the_parser_of_roles_knows_the_rule(rule: Rule) -> None:
    assert VALIDATORS["roles"].is_valid(as_json(yaml.safe_load(rule.example)))
    assert re.search(rule.message, refusal("roles", rule.example, RoleDefaults()) or "accepted") is not None
    assert refusal("roles", rule.example, RoleDefaults()) is not None


@pytest.mark.parametrize("rule", LOCAL, ids=lambda rule: rule.text)
def test_only_the_parser_of_local_knows_the_rule(rule: Rule) -> None:
    assert VALIDATORS["local"].is_valid(yaml.safe_load(rule.example))
    assert re.search(rule.message, refusal("local", rule.example) or "accepted") is not None


def test_page_of_local_lists_the_rules() -> None:
    text = (ROOT / "docs" / "local-sts.md").read_text(encoding="utf-8")
    assert [rule.text for rule in LOCAL if f"- {rule.text}\n" not in text] == []


# Examples

EXAMPLES = [
    *(("roles", path.read_text(encoding="utf-8", errors="replace")) for path in sorted((CORPUS / "roles").iterdir())),
    *(("local", path.read_text(errors="replace")) for path in sorted((CORPUS / "local_config").iterdir())),
    ("roles", (ROOT / "docs" / "roles.yaml").read_text(encoding="utf-8")),
    ("local", (ROOT / "docs" / "local.yaml").read_text(encoding="utf-8")),
]


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_schema_and_parser_judge_an_example_alike(kind: str, text: str) -> None:
    try:
        document = as_json(strict_yaml.load(text, "f"))
    except ConfigurationError:
        assert refusal(kind, text) is not None
        return
    judge(kind, text, document)


WITH_SCHEMA = [
    path for folder in ("docs", "k8s") for path in (ROOT / folder).rglob("*.yaml") if MODELINE.search(path.read_text())
]


@pytest.mark.parametrize("path", WITH_SCHEMA, ids=str)
def test_file_is_valid_by_the_schema_that_it_names(path: Path) -> None:
    found = MODELINE.search(path.read_text(encoding="utf-8"))
    assert found is not None
    schema = json.loads((path.parent / found[1]).read_text(encoding="utf-8"))
    extend(validator_for(schema), {"pattern": _pattern})(schema).validate(
        strict_yaml.load(path.read_bytes(), str(path))
    )


def test_examples_name_their_schema() -> None:
    for name in VALIDATORS:
        assert f"# yaml-language-server: $schema={name}.schema.json\n" in (ROOT / "docs" / f"{name}.yaml").read_text()


def test_schema_accepts_the_annotation_of_the_example() -> None:
    objects = yaml.safe_load_all((ROOT / "k8s" / "pod" / "roles.yaml").read_text(encoding="utf-8"))
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    text = deployment["spec"]["template"]["metadata"]["annotations"]["irsa-sidecar.io/roles"]
    assert judge("roles", text, strict_yaml.load(text, "f"))


def test_command_prints_each_schema(capsys: pytest.CaptureFixture[str]) -> None:
    for name in KINDS:
        assert cli.main(["schema", name]) == 0
        assert json.loads(capsys.readouterr().out) == VALIDATORS[name].schema


# Random documents

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 100_000),
    st.integers(),
    st.sampled_from([0.5, -1.5, 1e30]),
    st.text(max_size=5),
    st.text("a0.-_{}:/+ ", max_size=12),
    st.sampled_from(["{pod}", "{pod}.{no}", "{role", "a\n", "max", "900", "0", "4294967296", "10.0.0.1", "https://a"]),
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def changed(examples: Mapping[str, Any], required: Sequence[str] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Return mappings with the required examples and some others. One of their values may be arbitrary or missing."""
    fixed = {key: st.just(examples[key]) for key in required}
    others = {key: st.just(value) for key, value in examples.items() if key not in required}
    arbitrary = st.dictionaries(st.sampled_from([*examples, "unknown"]), ANY, max_size=1)
    return st.builds(lambda kept, added: {**kept, **added}, st.fixed_dictionaries(fixed, optional=others), arbitrary)


def examples_of(notes: Mapping[str, KeyNote]) -> dict[str, Any]:
    return {key: strict_yaml.load(note.example, "f") for key, note in notes.items() if note.example}


STEP = changed(examples_of(OF_A_STEP), ["role_arn"])
ROLE = st.builds(
    lambda role, steps: {**role, "chain": steps} if steps else role,
    changed({**examples_of(OF_A_ROLE), "duration": "max"}, ["name", "role_arn"]),
    st.lists(STEP, max_size=2),
)
ROLES_FILES = st.one_of(
    ANY, st.lists(ROLE, max_size=2), st.builds(lambda each: {"roles": each}, st.lists(ROLE, max_size=2))
)

TRUST_POLICY = {"Version": "2012-10-17", "Statement": []}
LOCAL_ROLE = changed({"name": "app", "arn": ARN, "trust_policy": TRUST_POLICY, "max_session_duration": 3600})
PROVIDER = changed({"issuer": "https://a/b", "audiences": ["c"], "jwks_file": "keys.json"}, ["issuer"])
LOCAL_FILES = st.one_of(
    ANY,
    st.builds(
        lambda whole, **lists: {**whole, **lists},
        changed(asdict(LocalConfig(issuer_url="http://[::1]:80", roles=(), providers=()))),
        roles=st.lists(LOCAL_ROLE, min_size=1, max_size=2),
        providers=st.lists(PROVIDER, max_size=2),
    ),
    changed({"roles": [{"name": "app"}], "sts_port": 0, "sts_host": "::", "region": "eu-west-1"}),
)


@pytest.mark.parametrize(("kind", "files"), [("roles", ROLES_FILES), ("local", LOCAL_FILES)])
def test_schema_and_parser_judge_any_file_alike(kind: str, files: st.SearchStrategy[Any]) -> None:
    accepted: set[bool] = set()

    @given(files)
    def check(document: Any) -> None:
        accepted.add(judge(kind, json.dumps(document), document))

    check()
    assert accepted == {True, False}
