"""Test the parsing of STS's responses: complete credentials, or one error with its next step."""

import subprocess
import sys
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials import Credentials
from sidecar.errors import NextStep
from sidecar.role import ChainStep
from sidecar.sts.wire import HEADERS, assume_role, assume_role_with_web_identity
from tests.unit.sts.responses import GOOD, JWT, KEY, ROLE_ARN, SECRET, SESSION_TOKEN, error_body, read, refusal, steady

# The request


def test_form_has_only_the_requested_parameters() -> None:
    form = assume_role_with_web_identity(role_arn=ROLE_ARN, session_name="shop.app", token=JWT, duration_seconds=3600)
    assert dict(parse_qsl(form.decode(), strict_parsing=True)) == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ROLE_ARN,
        "RoleSessionName": "shop.app",
        "WebIdentityToken": JWT,
        "DurationSeconds": "3600",
    }


def test_assume_role_form_omits_unset_parameters() -> None:
    form = assume_role(ChainStep(ROLE_ARN, "shop.app", 3600))
    assert dict(parse_qsl(form.decode(), strict_parsing=True)) == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE_ARN,
        "RoleSessionName": "shop.app",
        "DurationSeconds": "3600",
    }


def test_invalid_text_in_the_form_becomes_question_marks() -> None:
    form = assume_role_with_web_identity(role_arn="\udcff", session_name="s", token="t", duration_seconds=900)
    assert b"RoleArn=%3F&" in form


def test_headers_are_immutable() -> None:
    with pytest.raises(TypeError):
        HEADERS["Authorization"] = "anything"  # type: ignore[index] # the point of the test


# Credentials


def test_response_is_parsed_into_credentials() -> None:
    assert read(GOOD) == Credentials(
        access_key_id=KEY,
        secret_access_key=SECRET,
        session_token=SESSION_TOKEN,
        expires_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        role_arn=ROLE_ARN,
        account_id="111122223333",
    )


@pytest.mark.parametrize(
    ("spelt", "expiration"),
    [
        ("2026-01-02T03:04:05.999999Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.5+05:30", "2026-01-01T21:34:05Z"),
        ("2026-01-02T03:04:05-0800", "2026-01-02T11:04:05Z"),
    ],
)
def test_expiration_is_truncated_to_seconds_in_utc(spelt: str, expiration: str) -> None:
    got = read(GOOD.replace("2026-01-02T03:04:05Z", spelt))
    assert got.expires_at.tzinfo is UTC
    assert got.expires_at.microsecond == 0
    assert got.expiration == expiration


@pytest.mark.parametrize(
    "spelt",
    [
        "",
        " ",
        "soon",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:60Z",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "0000-01-02T03:04:05Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+01:60",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Z ",
        "٢٠٢٦-01-02T03:04:05Z",
        "1767323045",
        "1e400",
        "nan",
        "Fri, 02 Jan 2026 03:04:05 GMT",
    ],
)
def test_invalid_expiration_is_rejected(spelt: str) -> None:
    assert "Expiration" in refusal(GOOD.replace("2026-01-02T03:04:05Z", spelt)).message


FIELDS = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "SessionToken": SESSION_TOKEN}


EMPTY = ("", " ", "\n\t", "&#13;", "<b>text</b>", "a<b/>")
NO_CREDENTIAL = (f" {KEY}", f"{KEY}\n", "two words", "tab\there", "\x7f", "\x80", "naïve", "a\u2028b")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [(text, "is missing or empty") for text in EMPTY] + [(text, "contains characters") for text in NO_CREDENTIAL],
)
def test_credential_with_invalid_characters_is_rejected(name: str, text: str, problem: str) -> None:
    error = refusal(GOOD.replace(f"<{name}>{FIELDS[name]}</{name}>", f"<{name}>{text}</{name}>"))
    assert (error.code, error.next_step, error.status) == ("MalformedReply", NextStep.RETRY, 200)
    assert f"{name} {problem}" in error.message


@pytest.mark.parametrize("name", [*FIELDS, "Expiration", "Arn", "Credentials", "AssumedRoleUser"])
def test_response_without_an_element_is_rejected(name: str) -> None:
    error = refusal(GOOD.replace(f"<{name}>", "<Other>").replace(f"</{name}>", "</Other>"))
    assert error.code == "MalformedReply"


@pytest.mark.parametrize("name", [*FIELDS, "Expiration", "Arn", "Credentials", "AssumedRoleUser"])
def test_response_with_a_duplicate_element_is_rejected(name: str) -> None:
    start, end = GOOD.index(f"<{name}>"), GOOD.index(f"</{name}>") + len(f"</{name}>")
    assert refusal(GOOD[:end] + GOOD[start:end] + GOOD[end:]).code == "MalformedReply"


def test_fields_of_two_credentials_are_never_mixed() -> None:
    second = "</Credentials><Credentials><SecretAccessKey>another</SecretAccessKey>"
    mixed = GOOD.replace(f"<SecretAccessKey>{SECRET}</SecretAccessKey>", second)
    assert refusal(mixed).code == "MalformedReply"


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "111122223333",
        "arn:aws:sts::111122223333",
        "arn:aws:sts:::assumed-role/app/shop.app",
        "arn:aws:sts::11112222333:assumed-role/app/shop.app",
        "arn:aws:sts::1111222233334:assumed-role/app/shop.app",
        "arn:aws:sts::١١١١٢٢٢٢٣٣٣٣:assumed-role/app/shop.app",
        "arn:aws:sts::111122223333:",
        " arn:aws:sts::111122223333:assumed-role/app/shop.app",
    ],
)
def test_response_without_account_is_rejected(arn: str) -> None:
    assert "account" in refusal(GOOD.replace("arn:aws:sts::111122223333:assumed-role/app/shop.app", arn)).message


def nested(depth: int) -> str:
    return GOOD.replace("<Audience>", "<New>" + "<a>" * depth + "</a>" * depth + "</New><Audience>")


def test_unknown_elements_may_nest_up_to_a_limit() -> None:
    assert read(nested(10)) == read(GOOD)
    assert "nests deeper than 32" in refusal(nested(40)).message


def test_long_session_token_is_accepted() -> None:
    assert read(GOOD.replace(SESSION_TOKEN, "A&#66;" * 10_000)).session_token == "AB" * 10_000


BILLION_LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        "",
        " \n",
        "null",
        '{"Credentials": {}}',
        "<html><body>Welcome</body></html>",
        "<!DOCTYPE html><html><body><p>Welcome</body></html>",
        error_body("AccessDenied", "no"),
        GOOD.replace("AssumeRoleWithWebIdentityResponse", "AssumeRoleResponse"),
        GOOD.replace("AssumeRoleWithWebIdentityResult", "AssumeRoleResult"),
        GOOD + GOOD,
        GOOD + "trailing",
        GOOD[: len(GOOD) // 2],
        GOOD.replace("</Credentials>", ""),
        BILLION_LAUGHS + GOOD.partition("?>")[2],
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + GOOD.partition("?>")[2],
        GOOD.replace(KEY, "&undeclared;"),
        GOOD.replace(KEY, "&#0;"),
        GOOD.replace(KEY, "\0"),
        GOOD.replace("<Audience>", "<undeclared:Audience>").replace("</Audience>", "</undeclared:Audience>"),
        "<a>" * 50_000,
        "<a>" * 80_000 + "</a>" * 80_000,
        "<AssumeRoleWithWebIdentityResponse>" + "<a>" * 5_000 + "</a>" * 5_000 + "</AssumeRoleWithWebIdentityResponse>",
        GOOD.encode().replace(KEY.encode(), b"\xff\xfe"),
    ],
)
def test_200_without_credentials_is_rejected(body: str | bytes) -> None:
    error = refusal(body)
    assert (error.code, error.next_step, error.status) == ("MalformedReply", NextStep.RETRY, 200)
    assert "which is ignored" in error.message


def test_byte_order_mark_and_wrong_encoding_are_accepted() -> None:
    assert read(b"\xef\xbb\xbf" + GOOD.encode()) == read(GOOD)
    assert read(GOOD.replace("UTF-8", "ISO-8859-1")) == read(GOOD)
    assert read(GOOD.encode("utf-16")) == read(GOOD)
    assert read(GOOD.encode("utf-16-le")) == read(GOOD)


@pytest.mark.parametrize("status", [201, 202, 204, 206, 299])
def test_other_success_status_is_rejected(status: int) -> None:
    error = refusal(GOOD, status)
    assert (error.code, error.next_step, error.status) == ("MalformedReply", NextStep.RETRY, status)


@steady
@given(
    cut=st.integers(0, len(GOOD)), name=st.sampled_from(list(FIELDS)), junk=st.sampled_from(["\n", "é", "<x/>", "&x;"])
)
def test_error_about_a_200_response_does_not_quote_its_body(cut: int, name: str, junk: str) -> None:
    broken = GOOD.replace(f"</{name}>", f"{junk}</{name}>")
    for body in (broken, broken[:cut], GOOD.replace("Expiration", "Expires"), GOOD.replace("2026-01", SECRET)):
        error = refusal(body)
        shown = f"{error} {error!r} {error.args} {error.__cause__ or ''}"
        assert not any(secret in shown for secret in FIELDS.values() if secret != KEY)


# Imports


def test_wire_imports_no_heavy_module() -> None:
    program = (
        "import sys; before = set(sys.modules); "
        "import sidecar.sts.wire, sidecar.sts.endpoint, sidecar.sts.session_name; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sidecar.sts.wire" in loaded
    heavy = {"botocore", "httpx", "json", "logging", "random", "ssl", "structlog", "trio", "xml.etree.ElementTree"}
    assert not loaded & heavy
