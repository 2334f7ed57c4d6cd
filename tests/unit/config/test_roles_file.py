"""Test the roles in YAML: accepted values, and the errors for other values with their lines."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.roles_file import MAX_ROLES, parse_roles, read_roles_file
from sidecar.config_file import MAX_FILE_BYTES
from sidecar.errors import ConfigurationError
from sidecar.role import ChainStep, PodNames, Role, RoleDefaults

ARN = "arn:aws:iam::111122223333:role/app"
OTHER_ARN = "arn:aws:iam::444455556666:role/other-account"
DEFAULTS = RoleDefaults(token_file="/token", session_name=None, duration_seconds=3600)

WHOLE = f"""\
roles:
  - name: default
    role_arn: {ARN}
  - name: reporting
    role_arn: {ARN}
    token_file: /var/run/secrets/other/token
    session_name: "{{namespace}}.{{pod}}"
    duration: 900
    policy: {{Version: 2012-10-17, Statement: [{{Effect: Allow, Action: "s3:Get*", Resource: "*"}}]}}
    policy_arns: [arn:aws:iam::aws:policy/ReadOnlyAccess]
    authorization_token_file: /run/irsa-sidecar/reporting-token
    allow_uids: [1001, 0]
    chain:
      - role_arn: {OTHER_ARN}
        session_name: "{{role}}"
        duration: 1800
        external_id: 0123
        tags: {{team: data, cost-centre: 42}}
        transitive_tags: [team]
        source_identity: alice
"""


def parse(text: str, defaults: RoleDefaults = DEFAULTS) -> tuple[Role, ...]:
    return parse_roles(text, "roles.yaml", defaults)


def refusal(text: str, defaults: RoleDefaults = DEFAULTS) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, defaults)
    assert caught.value.fix
    return str(caught.value)


def one(**keys: Any) -> str:
    """Return a file with one role: `name` on line 2, `role_arn` on line 3, and each further key on its own line."""
    keys = {"name": "app", "role_arn": ARN} | keys
    lines = [f"{name}: {json.dumps(value)}" for name, value in keys.items()]
    return "roles:\n  - " + "\n    ".join(lines)


def test_all_keys_of_a_role_and_its_chain_are_read() -> None:
    plain, reporting = parse(WHOLE)
    assert plain == Role("default", ARN, "/token", None, 3600)
    assert reporting == Role(
        name="reporting",
        role_arn=ARN,
        token_file="/var/run/secrets/other/token",
        session_name="{namespace}.{pod}",
        duration_seconds=900,
        policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}',
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        authorization_token_file="/run/irsa-sidecar/reporting-token",
        allow_uids=frozenset({0, 1001}),
        chain=(
            ChainStep(
                OTHER_ARN,
                session_name="{role}",
                duration_seconds=1800,
                external_id="0123",
                tags=(("team", "data"), ("cost-centre", "42")),
                transitive_tags=("team",),
                source_identity="alice",
            ),
        ),
    )
    assert (plain.path, reporting.path) == ("/v1/credentials", "/v1/credentials/reporting")
    assert (plain.final_arn, reporting.final_arn) == (ARN, OTHER_ARN)


def test_omitted_key_has_the_value_of_the_variable() -> None:
    names = PodNames("shop", "cart", "cart-0", "uid")
    (role,) = parse(one(), RoleDefaults("/t", "{pod}", None, "/secret", names))
    assert role == Role("app", ARN, "/t", "{pod}", None, authorization_token_file="/secret", pod_names=names)


def test_bare_list_is_accepted_as_in_an_annotation() -> None:
    assert parse(json.dumps([{"name": "app", "role_arn": ARN, "containers": ["app", "worker"]}])) == (
        Role("app", ARN, "/token", None, 3600, containers=("app", "worker")),
    )


def test_secret_path_template_contains_the_role_name() -> None:
    defaults = DEFAULTS._replace(authorization_token_file="/run/{role}/token")
    assert parse(one(), defaults)[0].authorization_token_file == "/run/app/token"
    assert parse(one(authorization_token_file="/t"), defaults)[0].authorization_token_file == "/t"


def test_duration_max_is_accepted() -> None:
    assert parse(one(duration="max"))[0].duration_seconds is None


def test_chain_ignores_max_as_the_default_duration() -> None:
    longest = DEFAULTS._replace(duration_seconds=None)
    assert parse(one(chain=[STEP]), longest)[0].duration_seconds == 3600
    assert parse(one(), longest)[0].duration_seconds is None


def test_policy_in_json_text_is_accepted() -> None:
    policy = {"Version": "2012-10-17", "Statement": []}
    assert parse(one(policy=json.dumps(policy)))[0].policy == parse(one(policy=policy))[0].policy


LONG_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "a" * 2048, "Resource": "*"}]}
STEP = {"role_arn": OTHER_ARN}

BAD: dict[str, tuple[str, int, str]] = {
    "a misspelt key": (one(role_arm=ARN), 4, "Did you mean role_arn?"),
    "an unknown key": (one(xyzzy=1), 4, "Use one of name, role_arn"),
    "a key twice": (one() + "\n    name: b", 4, "the key 'name' appears twice"),
    "no role_arn": ("roles:\n  - name: a", 2, "no role_arn"),
    "no name": (f"roles:\n  - role_arn: {ARN}", 2, "no name"),
    "a user's ARN": (one(role_arn="arn:aws:iam::111122223333:user/me"), 3, "'arn:aws:iam::111122223333:user/me'"),
    "a name with a slash": (one(name="a/b"), 2, "'a/b'"),
    "a name of dots only": (one(name=".."), 2, "'..'"),
    "two roles with the same name": (one() + f"\n  - name: app\n    role_arn: {ARN}", 4, "Change the name of one"),
    "a duration in words": (one(duration="1h"), 4, "whole seconds from 900 to 43200, or max"),
    "a too long duration": (one(duration=43_201), 4, "43201"),
    "a template with an unknown field": (one(session_name="{podd}"), 4, "the fields {namespace}"),
    "a template with a character that STS does not accept": (one(session_name="a b {pod}"), 4, "not accept ' '"),
    "a too long session name": (one(session_name="x" * 65), 4, "2 to 64"),
    "a too long policy": (one(policy=LONG_POLICY), 4, "2048"),
    "a policy that is a list": (one(policy=[]), 4, "Version and Statement"),
    "a policy that is not JSON": (one(policy="{"), 4, "policy, in its text, line 1: this is not valid YAML"),
    "an ARN that is not a policy's": (one(policy_arns=[ARN]), 4, ARN),
    "too many policy ARNs": (
        one(policy_arns=[f"arn:aws:iam::aws:policy/P{n}" for n in range(11)]),
        4,
        "11 ARNs. Use at most 10",
    ),
    "a user by name": (one(allow_uids=["root"]), 4, "'root'"),
    "a negative user": (one(allow_uids=[-1]), 4, "'-1'"),
    "users not in a list": (one(allow_uids=1001), 4, "not a list"),
    "the token itself": (
        one(token_file="eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"),
        4,
        "(not shown here)",
    ),
    "an empty path": (one(authorization_token_file=""), 4, "path of a file"),
    "tags without a chain": (one(tags={"team": "data"}), 4, "step of `chain`"),
    "an external id without a chain": (one(external_id="x1"), 4, "step of `chain`"),
    "max with a chain": (one(duration="max", chain=[STEP]), 2, "an hour at most"),
    "a step without a role": (one(chain=[{"external_id": "ab"}]), 4, "no role_arn"),
    "a misspelt key of a step": (one(chain=[STEP | {"externalid": "ab"}]), 4, "Did you mean external_id?"),
    "a too long duration of a step": (
        one(chain=[STEP | {"duration": 3601}]),
        4,
        "900 to 3600, the maximum of STS",
    ),
    "too many steps": (one(chain=[STEP] * 11), 4, "11 steps. Use at most 10"),
    "a transitive tag that is not in the tags": (
        one(chain=[STEP | {"transitive_tags": ["a"]}]),
        4,
        "which is not in `tags`",
    ),
    "a tag without a key": (one(chain=[STEP | {"tags": {"": "a"}}]), 4, "1 to 128"),
    "a tag in two cases": (one(chain=[STEP | {"tags": {"a": "1", "A": "2"}}]), 4, "two keys that are equal for STS"),
    "a source identity with a space": (one(chain=[STEP | {"source_identity": "a b"}]), 4, "'a b'"),
    "text that is not YAML": ("roles:\n  - name: [", 2, "this is not valid YAML"),
    "a tab instead of a space": ("roles:\n\t- name: a", 2, "this is not valid YAML"),
    "a word instead of a mapping": ("roles", 1, "not a mapping. Write `roles:`"),
    "two roles with the same name in a bare list": (f"- name: a\n  role_arn: {ARN}\n" * 2, 3, "Change the name of one"),
    "containers not in a list": (one(containers="app"), 4, "not a list"),
    "another key at the top": ("role:\n  - name: a", 1, "Did you mean roles?"),
    "a mapping instead of the list": (f"roles:\n  default:\n    role_arn: {ARN}", 1, "not a list"),
    "a role that is only a word": ("roles: [app]", 1, "not a mapping. Write `name:`"),
    "a key that is a list": ("roles:\n  - [a]: b", 2, "not a word"),
    "an empty name": ("roles:\n  - name:\n", 2, "not text"),
}


@pytest.mark.parametrize("what", BAD)
def test_error_names_file_line_and_fix(what: str) -> None:
    text, line, words = BAD[what]
    message = refusal(text)
    assert message.startswith(f"roles.yaml, line {line}")
    assert words in message
    assert "\n" not in message
    assert message.endswith((".", "?"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "roles: []", "{}", "[" * 5000])
def test_file_without_roles_is_reported(text: str) -> None:
    assert refusal(text).startswith("roles.yaml")


def test_role_without_token_file_is_reported() -> None:
    message = refusal(one(), RoleDefaults())
    assert "role app has no token_file" in message
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in message


def test_too_many_roles_are_rejected() -> None:
    roles = [{"name": f"r{number}", "role_arn": ARN} for number in range(MAX_ROLES + 1)]
    assert f"{MAX_ROLES + 1} roles. Use at most {MAX_ROLES}" in refusal(json.dumps({"roles": roles}))
    assert len(parse(json.dumps({"roles": roles[:-1]}))) == MAX_ROLES


def test_aliases_that_expand_to_a_billion_parts_are_rejected() -> None:
    levels = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    levels += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 10)]
    policy = "{" + ", ".join(levels) + "}"
    assert "more than 1000 parts" in refusal(one() + f"\n    policy: {policy}")


def test_aliases_that_expand_to_a_million_steps_are_rejected() -> None:
    steps = f"[&s {{role_arn: '{ARN}'}}{', *s' * 1_000}]"
    text = f"[&r {{name: a, role_arn: '{ARN}', chain: {steps}}}{', *r' * 1_000}]"
    assert refusal(text).startswith("roles.yaml, line 1 has 1001 roles")
    assert "1001 steps. Use at most 10" in refusal(text.replace(", *r", ""))


def test_roles_file_is_read_or_reported_as_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "roles.yaml"
    for content in (None, "x" * (MAX_FILE_BYTES + 1)):
        if content:
            path.write_text(content)
        with pytest.raises(ConfigurationError, match=f"IRSA_SIDECAR_CONFIG is {path}"):
            read_roles_file(str(path), DEFAULTS)
    path.write_text(WHOLE)
    assert read_roles_file(str(path), DEFAULTS) == parse(WHOLE)


ALLOW_ALL = '{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}'
TWICE = {
    "a statement's effect": '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Effect": "Allow"}]}',
    "the statements": '{"Statement": [{"Effect": "Deny"}], "Statement": [' + ALLOW_ALL + "]}",
    "an operator": '{"Statement": [{"Condition": {"Bool": {"a": "b"}, "Bool": {"c": "d"}}}]}',
    "a condition key": '{"Statement": [{"Condition": {"Bool": {"a": "b", "a": "d"}}}]}',
    "a key with an escape": '{"Statement": [{"Effect": "Deny", "\\u0045ffect": "Allow"}]}',
}


@pytest.mark.parametrize("policy", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("form", ["mapping", "text"])
def test_policy_with_a_duplicate_key_is_rejected(policy: str, form: str) -> None:
    """Check the rejection. Without it, the last key would count, and a Deny would disappear silently."""
    value = policy if form == "mapping" else json.dumps(policy)
    message = refusal(one() + f"\n    policy: {value}")
    assert message.startswith("roles.yaml, line 4")
    assert "appears twice" in message
    in_a_chain = refusal(one() + f"\n    chain: [{{role_arn: '{OTHER_ARN}', policy: {value}}}]")
    assert "appears twice" in in_a_chain


TAGS_TWICE = one() + f"\n    chain: [{{role_arn: '{OTHER_ARN}', tags: {{a: 1, a: 2}}}}]"


def test_tags_with_a_duplicate_key_are_rejected() -> None:
    assert "the key 'a' appears twice" in refusal(TAGS_TWICE)


def test_emoji_in_ascii_json_stays_unchanged() -> None:
    """Use json.dumps, which writes an emoji as two escapes, a surrogate pair."""
    (role,) = parse(json.dumps([{"name": "app", "role_arn": ARN, "chain": [STEP | {"tags": {"mood": "\U0001f600"}}]}]))
    assert role.chain[0].tags == (("mood", "\U0001f600"),)
    (role,) = parse(one(policy=json.dumps({"Version": "\U0001f600"})))
    assert role.policy == '{"Version":"\\ud83d\\ude00"}'


def test_json_policy_may_escape_slashes() -> None:
    """Use escaped slashes. JSON allows them and some programs write them, but YAML does not allow them."""
    (role,) = parse(one(policy=r'{"Resource": "arn:aws:s3:::b\/*", "n": 1, "f": 1.5}'))
    assert role.policy == '{"Resource":"arn:aws:s3:::b/*","n":1,"f":"1.5"}'
    message = refusal(one(policy=r'{"a": {"Effect": "b\/", "Effect": 1}}'))
    assert message.startswith("roles.yaml, line 4: policy: the key 'Effect' appears twice")


@pytest.mark.parametrize("policy", ['{\n\t"Statement":\t[\n\t]\n}', '{\t"Statement": []}'])
def test_json_policy_may_be_indented_with_tabs(policy: str) -> None:
    (role,) = parse(one(policy=policy))
    assert role.policy == '{"Statement":[]}'
    twice = policy.replace("{", '{"Statement": 1, ')
    assert "the key 'Statement' appears twice" in refusal(one(policy=twice))


MERGES = {
    "a merge": "{Effect: Deny, <<: {Effect: Allow}}",
    "two merges": "{<<: {Effect: Deny}, <<: {Effect: Allow}}",
    "a merge in a list": "{Statement: [{<<: [{Effect: Deny}, {Effect: Allow}]}]}",
}


@pytest.mark.parametrize("policy", MERGES.values(), ids=MERGES)
@pytest.mark.parametrize("form", ["mapping", "text"])
def test_yaml_merge_keys_in_a_policy_are_rejected(policy: str, form: str) -> None:
    """Check the rejection. Without it, STS would receive a key `<<`, and only the last of two merge keys."""
    value = policy if form == "mapping" else json.dumps(policy)
    assert "<<" in refusal(one() + f"\n    policy: {value}")


def test_error_in_a_json_block_names_the_line_in_the_file() -> None:
    text = one() + '\n    policy: |\n      {"Statement": [],\n       "Statement": []}'
    assert refusal(text).startswith("roles.yaml: policy, line 6: the key 'Statement' appears twice")


RAISING = {
    "a character beyond Unicode": r'roles: "\UFFFFFFFF"',
    "a lone surrogate in a path": one() + '\n    authorization_token_file: "\\ud800"',
    "a lone surrogate in a key": r'{"\ud800": 1}',
    "nesting as mappings": "{a: " * 3000 + "}" * 3000,
    "nesting as lists": "[" * 3000,
    "nesting as blocks": "\n".join(" " * n + "a:" for n in range(500)),
    "nesting as sequences": "- " * 3000 + "a",
    "nesting in a policy": one() + f"\n    policy: {'{a: ' * 500}1{'}' * 500}",
    "nesting in a policy's text": one(policy='{"a":' * 500 + "1" + "}" * 500),
    "a directive of another version": "%YAML 9999999999999999999.1\n--- a",
    "an unknown tag": "roles: !!python/object/apply:os.system [x]",
    "an alias without an anchor": "roles: *a",
    "an alias of itself": "roles: &a [*a]",
    "an alias of itself in a policy": one() + "\n    policy: &a {Statement: *a}",
    "an alias of itself in a policy's list": one() + "\n    policy: {Statement: &a [*a]}",
    "aliases that nest deep": one()
    + "\n    policy: {a0: &a0 1, "
    + ", ".join(f"a{n + 1}: &a{n + 1} [[[[[*a{n}]]]]]" for n in range(300))
    + "}",
    "a number of 5,000 digits in a tag": one() + "\n    chain: [{tags: {a: " + "9" * 5_000 + "}}]",
    "two documents": "roles: []\n---\nroles: []",
    "a control character": "roles: \x07",
    "NUL": "roles: \0",
    "NUL in a path": one() + '\n    token_file: "a\\0b"',
}


@pytest.mark.parametrize("text", RAISING.values(), ids=RAISING)
def test_unexpected_exception_becomes_one_message(text: str) -> None:
    for form in (text, text.encode("utf-8", "surrogatepass")):
        with pytest.raises(ConfigurationError, match=r"roles\.yaml") as caught:
            parse_roles(form, "roles.yaml", DEFAULTS)
        assert "\n" not in str(caught.value)


UNPRINTABLE_KEYS = ["a\nb", "\r", "\x1b[2J", "\u2028", "\u202e", "\x85", "\x7f"]


@pytest.mark.parametrize("key", UNPRINTABLE_KEYS, ids=ascii)
@pytest.mark.parametrize("form", ["{%s: 1}", "roles: [{%s: 1}]", "roles: [{role_arn: x, chain: [{%s: 1}]}]"])
def test_unprintable_key_is_escaped_in_the_message(key: str, form: str) -> None:
    with pytest.raises(ConfigurationError, match=r"roles\.yaml") as caught:
        parse_roles(form % json.dumps(key), "roles.yaml", DEFAULTS)
    assert str(caught.value).isprintable()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WHOLE.split()]), inner, max_size=3),
    max_leaves=8,
)


@given(plain | st.dictionaries(st.just("roles"), st.lists(plain, max_size=2)))
def test_any_invalid_document_causes_one_message(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"roles\.yaml"):
        parse(json.dumps(value))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_invalid_bytes_cause_one_message(content: bytes | str) -> None:
    with pytest.raises(ConfigurationError, match=r"roles\.yaml"):
        parse_roles(content, "roles.yaml", DEFAULTS)
