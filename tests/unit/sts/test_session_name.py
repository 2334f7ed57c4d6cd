"""Test role session names: always valid, stable, and different for different Pods."""

import re

import botocore.session
import pytest
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.sts.session_name import (
    FIELDS,
    MAX_LENGTH,
    MIN_LENGTH,
    NAMELESS,
    from_template,
    parse_session_name,
    session_name,
)

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

steady = settings(deadline=None, derandomize=True)
"""Hypothesis settings with the same inputs on every run, and without a deadline."""

VALID = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")

any_text = st.text(st.characters(exclude_categories=())) | st.text(max_size=400)
"""A strategy for any text, including lone surrogates, which os.environ contains for bytes that are not UTF-8."""


def test_session_name_limits_equal_those_of_the_sts_model() -> None:
    model = botocore.session.Session().get_service_data("sts")
    shape = ServiceModel(model).shape_for("roleSessionNameType")
    assert shape.metadata == {"min": MIN_LENGTH, "max": MAX_LENGTH, "pattern": r"[\w+=,.@-]*"}


def test_session_name_joins_namespace_and_pod() -> None:
    assert session_name("shop", "checkout-6d4cf56db6-x2x7p") == "shop.checkout-6d4cf56db6-x2x7p"


def test_session_name_replaces_forbidden_characters() -> None:
    assert session_name("system:serviceaccount:shop:café/1") == "system-serviceaccount-shop-caf--1"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [((), NAMELESS), (("", ""), NAMELESS), (("", "pod"), "pod"), (("a",), "a-"), (("/",), "--")],
)
def test_session_name_of_too_short_parts_is_valid(parts: tuple[str, ...], expected: str) -> None:
    assert session_name(*parts) == expected


def test_session_name_of_64_characters_is_kept() -> None:
    name = "n" * 20 + "." + "p" * 43
    assert session_name(*name.split(".")) == name


def test_long_session_name_keeps_namespace_and_end() -> None:
    name = session_name("team-payments-production", "checkout-worker-for-nightly-settlement-6d4cf56db6-x2x7p")
    assert len(name) == 64
    assert name.startswith("team-payments-production.")
    assert name.endswith("-6d4cf56db6-x2x7p")


def test_session_name_digest_is_stable() -> None:
    assert session_name("n" * 40, "p" * 40) == "n" * 30 + "-c7f8c163-" + "p" * 24


def test_session_name_of_invalid_utf8_is_valid() -> None:
    assert session_name("\udcff") == "--"
    assert VALID.fullmatch(session_name("\udcff" * 65))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("checkout-" * 9 + "-6d4cf56db6-x2x7p", "checkout-" * 9 + "-6d4cf56db6-x2x7q"),
        ("checkout-" * 4 + "blue-" + "checkout-" * 4, "checkout-" * 4 + "cyan-" + "checkout-" * 4),
        ("checkout-" * 4 + "/" + "checkout-" * 4, "checkout-" * 4 + ":" + "checkout-" * 4),
    ],
    ids=["in the tail", "in the middle", "in replaced characters"],
)
def test_long_session_names_stay_different(one: str, other: str) -> None:
    assert session_name("shop", one) != session_name("shop", other)


@steady
@given(st.lists(any_text, max_size=4))
def test_session_name_of_any_text_is_valid_and_stable(parts: list[str]) -> None:
    name = session_name(*parts)
    assert VALID.fullmatch(name)
    assert session_name(*parts) == name
    assert parse_session_name("AWS_ROLE_SESSION_NAME", name) == name


@steady
@given(st.from_regex(VALID, fullmatch=True))
def test_valid_session_name_is_not_changed(name: str) -> None:
    assert session_name(name) == name
    assert parse_session_name("AWS_ROLE_SESSION_NAME", name) == name


@steady
@given(any_text)
def test_configured_name_is_kept_or_a_valid_name_is_suggested(value: str) -> None:
    if VALID.fullmatch(value):
        assert parse_session_name("AWS_ROLE_SESSION_NAME", value) == value
        return
    with pytest.raises(ConfigurationError) as caught:
        parse_session_name("AWS_ROLE_SESSION_NAME", value)
    assert f"AWS_ROLE_SESSION_NAME is {value[:100]!r}" in str(caught.value)
    is_template = re.search(r"\{[^{}]*\}", value) is not None
    assert is_template or f"Set it to {session_name(value)!r}" in caught.value.fix


@pytest.mark.parametrize("value", ["", "a", "a" * 65, "two words", "na/me", "naïve", "name\n"])
def test_configured_name_that_sts_rejects_is_rejected(value: str) -> None:
    with pytest.raises(ConfigurationError, match="AWS_ROLE_SESSION_NAME"):
        parse_session_name("AWS_ROLE_SESSION_NAME", value)


# Templates

VALUES = {"namespace": "shop", "service_account": "cart", "pod": "cart-0", "uid": "0f5c", "role": "default"}


def test_template_is_filled_with_names_of_the_pod() -> None:
    assert from_template("{namespace}.{pod}@{role}", VALUES) == "shop.cart-0@default"
    assert from_template("prod-{service_account}", VALUES) == "prod-cart"


def test_template_omits_unknown_values() -> None:
    assert from_template("{namespace}.{pod}", VALUES | {"pod": None}) == "shop"
    assert from_template("{pod}", VALUES | {"pod": None}) == NAMELESS


@given(st.text(), st.dictionaries(st.sampled_from(FIELDS), any_text))
def test_template_always_leads_to_a_valid_name(text: str, values: dict[str, str]) -> None:
    template = check_or_none(text)
    if template is not None:
        name = from_template(template, values)
        assert VALID.fullmatch(name)
        assert name == from_template(template, values)


@pytest.mark.parametrize(
    ("template", "words"),
    [("{podd}", "{podd} is not"), ("{}", "{} is not"), ("a b {pod}", "not accept ' '"), ("{pod}}", "not accept '}'")],
)
def test_invalid_template_is_reported_with_the_valid_fields(template: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_session_name("AWS_ROLE_SESSION_NAME", template)
    assert f"AWS_ROLE_SESSION_NAME is {template!r}" in str(caught.value)
    assert words in str(caught.value)
    assert "{service_account}" in str(caught.value)


def check_or_none(text: str) -> str | None:
    try:
        return parse_session_name("AWS_ROLE_SESSION_NAME", "{namespace}" + text)
    except ConfigurationError:
        return None
