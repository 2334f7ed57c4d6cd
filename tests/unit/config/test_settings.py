"""Test the settings from variables and flags, and the errors for invalid values."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.settings import PREFIX, SETTINGS, Config, read_config, unknown_variables
from sidecar.errors import ConfigurationError
from sidecar.role import Role
from sidecar.sts.settings import StsSettings

ROLE_ARN = "arn:aws:iam::111122223333:role/app"
ROLES_FILE = str(Path(__file__).parents[3] / "docs" / "roles.yaml")
ENVIRON = {"AWS_ROLE_ARN": ROLE_ARN, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}


Texts = Mapping[str, str]
NONE: Texts = {}


def read(variables: Texts = NONE, flags: Texts = NONE, *, allow_non_loopback: bool = False) -> Config:
    return read_config({**ENVIRON, **variables}, flags, allow_non_loopback=allow_non_loopback)


def complaint(variables: Texts = NONE, flags: Texts = NONE) -> ConfigurationError | None:
    """Return the error for these settings, or None if they are valid."""
    try:
        read(variables, flags)
    except ConfigurationError as error:
        return error
    return None


def refusal(variables: Texts = NONE, flags: Texts = NONE) -> ConfigurationError:
    error = complaint(variables, flags)
    assert error is not None
    return error


def field(config: Config, name: str) -> Any:
    if name == "sts_fallback_regions":
        return config.sts.fallback_regions
    return config.role.duration_seconds if name == "duration_seconds" else getattr(config, name)


# Our variables

GOOD = [
    ("listen", "127.0.0.1:0", ("127.0.0.1", 0)),
    ("listen", "[::1]:4772", ("::1", 4772)),
    ("listen", "localhost:4772", ("127.0.0.1", 4772)),
    ("admin_listen", "10.0.0.7:9090", ("10.0.0.7", 9090)),
    ("admin_listen", ":9090", ("0.0.0.0", 9090)),
    ("admin_listen", "off", None),
    ("admin_page", "off", False),
    ("admin_page", "on", True),
    ("authorization_token_file", "/run/secret", "/run/secret"),
    ("authorization_mode", "0644", 0o644),
    ("duration_seconds", "900", 900),
    ("duration_seconds", "43200", 43_200),
    ("duration_seconds", "max", None),
    ("config_file", ROLES_FILE, ROLES_FILE),
    ("sts_fallback_regions", "eu-central-1", ("eu-central-1",)),
    ("sts_fallback_regions", "eu-central-1, eu-north-1", ("eu-central-1", "eu-north-1")),
    ("imds_listen", "127.0.0.1:0", ("127.0.0.1", 0)),
    ("imds_listen", "off", None),
    ("credentials_file", "/run/credentials", "/run/credentials"),
    ("state_dir", "/run/irsa-sidecar-state", "/run/irsa-sidecar-state"),
    ("state_allow_disk", "true", True),
    ("state_allow_disk", "False", False),
    ("drain_seconds", "25", 25),
    ("log_format", "console", "console"),
    ("log_level", "debug", "debug"),
]
BAD = [
    ("listen", "4772", "127.0.0.1:4772"),
    ("listen", "127.0.0.1:65536", "65535"),
    ("listen", "sidecar.local:4772", "IP address"),
    ("listen", "off", "127.0.0.1:4772"),
    ("admin_listen", "no", "127.0.0.1:4772"),
    ("admin_page", "no", "on, off"),
    ("imds_listen", "on", "127.0.0.1:4772"),
    ("authorization_mode", "0666", "0600, 0640, 0644"),
    ("state_allow_disk", "yes", "true, false"),
    ("state_allow_disk", "1", "true, false"),
    ("duration_seconds", "899", "900 to 43200"),
    ("duration_seconds", "43201", "900 to 43200"),
    ("duration_seconds", "1h", "whole seconds"),
    ("duration_seconds", "MAX", "or max for"),
    ("duration_seconds", "3600.0", "whole seconds"),
    ("duration_seconds", "+3600", "whole seconds"),
    ("duration_seconds", "\u0663\u0660\u0660\u0660", "whole seconds"),
    ("sts_fallback_regions", "eu-central-1,,eu-north-1", "separated by commas"),
    ("sts_fallback_regions", ",", "separated by commas"),
    ("drain_seconds", "-1", "0 to 86400"),
    ("drain_seconds", "9" * 5000, "0 to 86400"),
    ("log_format", "jsn", "did you mean json?"),
    ("log_level", "warn", "did you mean warning?"),
    ("log_level", "INFO", "debug, info, warning, error"),
]
FLAGS = {setting.field: setting.flag for setting in SETTINGS}
VARIABLES = {setting.field: PREFIX + setting.variable for setting in SETTINGS}


def test_table_of_values_contains_every_setting() -> None:
    assert {name for name, _, _ in GOOD} == set(FLAGS) == set(VARIABLES)


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_setting_is_read_from_its_variable(name: str, text: str, value: Any) -> None:
    assert field(read({VARIABLES[name]: text, "AWS_REGION": "eu-west-1"}), name) == value


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_flag_takes_precedence_over_its_variable(name: str, text: str, value: Any) -> None:
    assert field(read({VARIABLES[name]: "nonsense", "AWS_REGION": "eu-west-1"}, {name: text}), name) == value


@pytest.mark.parametrize(("name", "text", "fix"), BAD)
def test_invalid_variable_is_reported_with_value_and_fix(name: str, text: str, fix: str) -> None:
    error = refusal({VARIABLES[name]: text})
    assert error.setting == VARIABLES[name]
    assert VARIABLES[name] in error.problem
    assert repr(text)[:60] in error.problem
    assert fix in str(error)


@pytest.mark.parametrize(("name", "text", "fix"), BAD)
def test_invalid_flag_is_reported_by_its_name(name: str, text: str, fix: str) -> None:
    error = refusal(flags={name: text})
    assert error.setting == FLAGS[name]
    assert error.problem.startswith(f"{FLAGS[name]} is ")
    assert fix in str(error)


@pytest.mark.parametrize("name", FLAGS)
def test_empty_variable_is_unset(name: str) -> None:
    assert read({VARIABLES[name]: ""}) == read()


@pytest.mark.parametrize("name", FLAGS)
def test_empty_flag_is_rejected(name: str) -> None:
    assert refusal(flags={name: ""}).setting == FLAGS[name]


def test_absent_flag_does_not_replace_its_variable() -> None:
    flags: dict[str, str | None] = dict.fromkeys(FLAGS)
    environ = ENVIRON | {"IRSA_SIDECAR_LOG_LEVEL": "debug"}
    assert read_config(environ, flags).log_level == "debug"


def test_default_settings_serve_credentials_on_loopback() -> None:
    assert read() == Config(
        listen=("127.0.0.1", 4772),
        admin_listen=("0.0.0.0", 4773),
        authorization_token_file=None,
        config_file=None,
        drain_seconds=0,
        log_format=None,
        log_level="info",
        roles=(Role("default", ROLE_ARN, "/token", None, 3600),),
        sts=StsSettings(None, None, use_fips=False, use_dualstack=False, ca_bundle=None),
        imds_listen=None,
        credentials_file=None,
    )


# Loopback


@pytest.mark.parametrize("address", ["0.0.0.0:4772", ":4772", "[::]:4772", "10.0.0.7:4772", "[fe80::1]:4772"])
@pytest.mark.parametrize("name", ["listen", "imds_listen"])
def test_address_beyond_loopback_needs_a_flag(name: str, address: str) -> None:
    error = refusal(flags={name: address})
    assert error.setting == VARIABLES[name]
    assert "--allow-non-loopback" in error.fix
    assert field(read(flags={name: address}, allow_non_loopback=True), name)[1] == 4772


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"])
def test_loopback_address_is_accepted_without_a_flag(address: str) -> None:
    assert read(flags={"listen": address}).listen[1] == 1


# AWS's variables


@pytest.mark.parametrize("name", ENVIRON)
def test_missing_required_variable_is_reported_by_name(name: str) -> None:
    for value in ({}, {name: ""}):
        others = {other: ENVIRON[other] for other in ENVIRON if other != name}
        with pytest.raises(ConfigurationError, match=f"^{name} is not set") as caught:
            read_config(others | value, {})
        assert caught.value.setting == name


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::111122223333:role/app",
        "arn:aws-cn:iam::111122223333:role/app",
        "arn:aws-us-gov:iam::111122223333:role/path/to/app_1+=,.@-",
        "arn:aws-iso-b:iam::111122223333:role/app",
    ],
)
def test_role_arn_of_every_partition_is_accepted(arn: str) -> None:
    assert read({"AWS_ROLE_ARN": arn}).role.role_arn == arn


@pytest.mark.parametrize(
    "arn",
    [
        "app",
        "arn:aws:iam::111122223333:user/app",
        "arn:aws:iam::11112222333:role/app",
        "arn:aws:sts::111122223333:assumed-role/app/x",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role/app\n",
        " arn:aws:iam::111122223333:role/app",
        "arn:aws:iam::١١١١٢٢٢٢٣٣٣٣:role/app",
    ],
)
def test_invalid_role_arn_is_reported_with_an_example(arn: str) -> None:
    error = refusal({"AWS_ROLE_ARN": arn})
    assert error.setting == "AWS_ROLE_ARN"
    assert repr(arn) in error.problem
    assert "arn:aws:iam::111122223333:role/app" in error.fix


STS = [
    ({"AWS_REGION": "eu-west-1"}, {"region": "eu-west-1"}),
    ({"AWS_DEFAULT_REGION": "eu-west-1"}, {"region": "eu-west-1"}),
    ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, {"region": "eu-west-1"}),
    ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}, {"region": "us-east-1"}),
    ({"AWS_ENDPOINT_URL_STS": "http://a", "AWS_ENDPOINT_URL": "http://b"}, {"endpoint_url": "http://a"}),
    ({"AWS_ENDPOINT_URL": "http://b"}, {"endpoint_url": "http://b"}),
    ({"AWS_ENDPOINT_URL_STS": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, {"endpoint_url": None}),
    ({"AWS_ENDPOINT_URL_STS": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "no"}, {"endpoint_url": "http://a"}),
    ({"AWS_USE_FIPS_ENDPOINT": "true"}, {"use_fips": True}),
    ({"AWS_USE_FIPS_ENDPOINT": "False"}, {"use_fips": False}),
    ({"AWS_USE_DUALSTACK_ENDPOINT": "TRUE"}, {"use_dualstack": True}),
    ({"AWS_CA_BUNDLE": "/etc/ca.pem"}, {"ca_bundle": "/etc/ca.pem"}),
    ({"AWS_CA_BUNDLE": ""}, {"ca_bundle": None}),
    ({"AWS_SDK_UA_APP_ID": "cart"}, {"app_id": "cart"}),
    ({"AWS_SDK_UA_APP_ID": ""}, {"app_id": None}),
]


@pytest.mark.parametrize(("variables", "settings"), STS)
def test_aws_variables_have_the_same_meaning_as_in_sdks(variables: dict[str, str], settings: dict[str, Any]) -> None:
    assert read(variables).sts == read().sts._replace(**settings)


@pytest.mark.parametrize("name", ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
def test_boolean_accepts_only_true_or_false(name: str) -> None:
    error = refusal({name: "1"})
    assert error.setting == name
    assert "'1'" in error.problem
    assert "true or false" in error.fix


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "AWS_REGION is not set, and role other-account has a chain"),
        ({"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"}, "AWS_REGION is not set, and role other-account has a chain"),
        ({"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "AWS_REGION": "us east 1"}, "AWS_REGION is 'us east 1'"),
    ],
)
def test_chain_without_signing_region_is_rejected(variables: Texts, words: str) -> None:
    assert words in str(refusal({"IRSA_SIDECAR_CONFIG": ROLES_FILE, **variables}))
    assert complaint({key: value for key, value in variables.items() if key != "AWS_REGION"}) is None


def test_configured_session_name_is_used() -> None:
    assert read({"AWS_ROLE_SESSION_NAME": "me"}).role.session_name == "me"


# Unknown variables


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("IRSA_SIDECAR_LISTN", "IRSA_SIDECAR_LISTEN"),
        ("IRSA_SIDECAR_LOGLEVEL", "IRSA_SIDECAR_LOG_LEVEL"),
        ("IRSA_SIDECAR_DURATIONS", "IRSA_SIDECAR_DURATION"),
        ("IRSA_SIDECAR_AUTHORIZATION_TOKEN", "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"),
    ],
)
def test_warning_about_an_unknown_variable_suggests_a_name(name: str, nearest: str) -> None:
    (warning,) = unknown_variables({name: "x", "PATH": "/bin"})
    assert warning.problem.startswith(f"{name} is not a setting")
    assert warning.problem.endswith(f"(did you mean {nearest}?)")


def test_variable_without_a_similar_name_gets_no_suggestion() -> None:
    (warning,) = unknown_variables({"IRSA_SIDECAR_FOO": "x"})
    assert "IRSA_SIDECAR_FOO" in warning.problem
    assert "did you mean" not in warning.problem


@pytest.mark.parametrize("service", ["IRSA_SIDECAR", "IRSA_SIDECAR_X", "IRSA_SIDECAR_LISTEN", "IRSA_SIDECAR_ADMIN_V2"])
def test_variables_of_a_kubernetes_service_are_ignored(service: str) -> None:
    port = f"{service}_PORT_4773_TCP"
    service_variables = {
        f"{service}_SERVICE_HOST": "10.96.0.7",
        f"{service}_SERVICE_PORT": "4773",
        f"{service}_SERVICE_PORT_HTTP_METRICS": "4773",
        f"{service}_PORT": "tcp://10.96.0.7:4773",
        port: "tcp://10.96.0.7:4773",
        f"{port}_PROTO": "tcp",
        f"{port}_PORT": "4773",
        f"{port}_ADDR": "10.96.0.7",
        f"{service}_PORT_53_UDP_PROTO": "udp",
        f"{service}_PORT_9_SCTP": "sctp://10.96.0.7:9",
    }
    assert unknown_variables(service_variables) == []
    assert read(service_variables) == read()


def test_known_and_unrelated_variables_cause_no_warning() -> None:
    assert unknown_variables({**dict.fromkeys(VARIABLES.values(), "x"), "IRSA": "x", "SIDECAR_LISTEN": "x"}) == []


# Any text

_AWS = [
    *ENVIRON,
    "AWS_ROLE_SESSION_NAME",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_CA_BUNDLE",
    "AWS_SDK_UA_APP_ID",
]
_TEXT = st.text() | st.sampled_from([text for _, text, _ in GOOD + BAD]) | st.from_regex(r"[\d:\[\].a-f]{1,40}")


@given(st.dictionaries(st.sampled_from([*VARIABLES.values(), *_AWS]), _TEXT))
@example({"AWS_ROLE_ARN": "\ud800"})
def test_any_variable_is_accepted_or_named_in_the_error(variables: Texts) -> None:
    error = complaint(variables)
    assert error is None or (re.match(r"(AWS|IRSA_SIDECAR)_[A-Z_]+ ", error.problem) and error.setting and error.fix)


@given(st.dictionaries(st.sampled_from(sorted(FLAGS)), _TEXT))
def test_any_flag_is_accepted_or_named_in_the_error(flags: Texts) -> None:
    error = complaint(flags=flags)
    setting = r"--[a-z-]+|IRSA_SIDECAR_((IMDS_)?LISTEN|CONFIG)"
    assert error is None or (re.fullmatch(setting, error.setting or "") and error.fix)


@given(st.dictionaries(st.builds(PREFIX.__add__, st.text("ABCDEFPORTSVH_0123456789", max_size=30)), st.just("x")))
def test_any_variable_name_causes_at_most_one_warning(variables: dict[str, str]) -> None:
    reported = [warning.problem.split(" ", 1)[0] for warning in unknown_variables(variables)]
    assert reported == sorted(set(reported))
    assert set(reported) <= variables.keys() - set(VARIABLES.values())
