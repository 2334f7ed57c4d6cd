"""Test the configuration file of `local`: defaults, valid settings and errors."""

import os
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from sidecar.config_file import MAX_FILE_BYTES
from sidecar.errors import ConfigurationError
from sidecar.local.config import LocalConfig, ProviderSettings, RoleSettings, read_config
from tests.support.documents import blocks

BEYOND_UNICODE = "OverflowError" if sys.version_info < (3, 13) else "ValueError"
"""The error of `chr` for a character beyond Unicode. PyYAML raises the same error."""

COMPLETE = """
account_id: "444455556666"
region: eu-west-1
audience: sts.amazonaws.com
namespace: shop
service_account: cart
pod: cart-0
node: laptop
token_lifetime_seconds: 3600
key_rotation_seconds: 60
issuer_url: https://oidc.eks.eu-west-1.amazonaws.com/id/ABC
issuer_port: 4774
sts_port: 4775
roles:
  - name: cart
    max_session_duration: 43200
  - arn: arn:aws:iam::777788889999:role/path/other
    trust_policy:
      Version: 2012-10-17
      Statement: []
providers:
  - issuer: https://issuer.example.com
    audiences: [a, b]
    jwks_file: /keys/jwks.json
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "local.yaml"
    path.write_text(text)
    return path


def test_config_without_a_file_or_content_has_defaults(tmp_path: Path) -> None:
    assert read_config(None) == read_config(_file(tmp_path, "# nothing\n")) == LocalConfig()


def test_every_setting_in_the_file_is_read(tmp_path: Path) -> None:
    config = read_config(_file(tmp_path, COMPLETE))
    assert config == LocalConfig(
        account_id="444455556666",
        region="eu-west-1",
        audience="sts.amazonaws.com",
        namespace="shop",
        service_account="cart",
        pod="cart-0",
        node="laptop",
        token_lifetime_seconds=3600,
        key_rotation_seconds=60,
        issuer_url="https://oidc.eks.eu-west-1.amazonaws.com/id/ABC",
        issuer_port=4774,
        sts_port=4775,
        roles=(
            RoleSettings(name="cart", max_session_duration=43_200),
            RoleSettings(
                arn="arn:aws:iam::777788889999:role/path/other",
                trust_policy={"Version": "2012-10-17", "Statement": []},
            ),
        ),
        providers=(ProviderSettings("https://issuer.example.com", ("a", "b"), Path("/keys/jwks.json")),),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regoin: eu-west-1", "'regoin' is not a setting. Did you mean region?"),
        ("zzz: 1", "'zzz' is not a setting. Use one of account_id, region"),
        (
            "account_id: 111122223333",
            "account_id is 111122223333, which is not valid. Use a 12-digit account id in quotes",
        ),
        ("region: mars", "region is 'mars'"),
        (
            "token_lifetime_seconds: 599",
            "token_lifetime_seconds is 599, which is not valid. Use seconds from 600 to 86400",
        ),
        ("token_lifetime_seconds: true", "token_lifetime_seconds is True"),
        ('sts_port: "80"', "sts_port is '80'"),
        ("issuer_url: oidc.example.com", "issuer_url is 'oidc.example.com', which is not valid. Use a URL"),
        ("service_account: App", "service_account is 'App'"),
        ("roles: app", "roles is 'app', which is not a list"),
        ("roles: []", "roles is empty"),
        ("roles: [app]", "roles[0] is 'app', which is not a mapping"),
        ("roles: [{}]", "roles[0] does not have exactly one of name and arn"),
        ("roles: [{name: a, arn: 'arn:aws:iam::111122223333:role/a'}]", "roles[0]"),
        ("roles: [{name: a, trustpolicy: {}}]", "'trustpolicy' is not a setting. Did you mean trust_policy?"),
        ("roles: [{arn: 'arn:aws:iam::1:role/a'}]", "roles[0]: arn is 'arn:aws:iam::1:role/a'"),
        ("roles: [{name: a, max_session_duration: 900}]", "Use seconds from 3600 to 43200"),
        ("providers: [{audiences: [a]}]", "providers[0]: issuer is missing"),
        ("providers: [{issuer: 'https://x.test', audiences: a}]", "audiences is 'a', which is not a list"),
        ("- a", "is ['a'], which is not a mapping"),
        ("region: eu-west-1\nregion: us-east-1", "line 2: the key 'region' appears twice"),
        ("roles: [{name: a, trust_policy: {1: a, 0x1: b}}]", "line 1: the key '0x1' appears twice"),
        ("roles: [{name: a, trust_policy: {true: a, yes: b}}]", "line 1: the key 'yes' appears twice"),
        ("roles: [{name: a, trust_policy: {null: a, ~: b}}]", "line 1: the key '~' appears twice"),
        (
            "roles: [{name: a, trust_policy: {Statement: [{Effect: Deny, Effect: Allow}]}}]",
            "line 1: the key 'Effect' appears twice",
        ),
        ("providers: [{issuer: 'https://x.test', jwks_file: \"\\ud800\"}]", "a character that UTF-8 cannot encode"),
        ("a: [" * 500, "nests deeper than"),
        (r'region: "\UFFFFFFFF"', f"this is not valid YAML ({BEYOND_UNICODE})"),
        ("account_id: !!int x", "this is not valid YAML (ValueError)"),
        ("account_id: !!float x", "this is not valid YAML (ValueError)"),
        ("account_id: !!timestamp x", "this is not valid YAML"),
        ("? [a]\n: b", "this is not valid YAML"),
        ("issuer_url: 'http://[::'", "has no usable host and port"),
        ("issuer_url: 'http://a:99999'", "has no usable host and port"),
        ("providers: [{issuer: 'http://a:b'}]", "has no usable host and port"),
        ("roles: " + "[" + "a, " * 300 + "]", "roles[0] is 'a'"),
        ("region: " + "a" * 100_000, "a…, which is not valid. Use an AWS region"),
        (
            "roles: [" + ", ".join(f"&a{n} [" + f"*a{n - 1}, " * 10 + "]" if n else "&a0 x" for n in range(12)) + "]",
            "it has more than 20000 parts",
        ),
        ("roles: &a [*a]", "line 1: it contains itself by an alias"),
        ("roles: [{name: a, trust_policy: &p {Statement: *p}}]", "line 1: it contains itself by an alias"),
        ("a: [", "line 1: this is not valid YAML"),
        ("!!python/object:os.system {}", "line 1: this is not valid YAML"),
    ],
)
def test_error_in_the_file_names_the_setting_and_a_fix(tmp_path: Path, text: str, message: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("home", ["~nobody-of-that-name/keys", "~/keys"])
def test_path_that_begins_with_a_tilde_is_accepted(tmp_path: Path, home: str) -> None:
    path = _file(tmp_path, f"providers: [{{issuer: 'https://x.test', jwks_file: '{home}'}}]")
    assert read_config(path).providers[0].jwks_file is not None


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "large"])
def test_configuration_file_must_be_a_small_regular_file(tmp_path: Path, kind: str) -> None:
    path = {"device": Path("/dev/zero")}.get(kind, tmp_path / "local.yaml")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match=rf"--config is {path}"):
        read_config(path)


def test_missing_configuration_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")


def test_issuer_flag_adds_a_provider() -> None:
    config = LocalConfig().with_provider("https://issuer.example.com", jwks_file=Path("keys"))
    assert config.providers == (ProviderSettings("https://issuer.example.com", ("sts.amazonaws.com",), Path("keys")),)
    with pytest.raises(ConfigurationError, match="--issuer is 'nonsense'"):
        LocalConfig().with_provider("nonsense")


def test_example_in_the_documentation_is_complete(tmp_path: Path) -> None:
    (example,) = [block.text for block in blocks("docs/local-sts.md") if block.notes.get("file") == "local.yaml"]
    path = tmp_path / "local.yaml"
    path.write_text(example)
    config = read_config(path)
    settings = {item.name for item in fields(config) if getattr(config, item.name) is not None}
    assert [role.name for role in config.roles] == ["app", "reporting"]
    assert all(f"{name}:" in example for name in settings)
