"""Test the messages about wrong content of a token file, which never show the content."""

import base64
import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.errors import TokenError
from sidecar.token import MAX_TOKEN_BYTES, decode_token
from sidecar.token_mistake import CODES, find_mistake
from tests.support.fakes.tokens import jwt_of, service_account_token

NOW = 1_800_000_000.0
PATH = "/var/run/secrets/token"
TOKEN = service_account_token(NOW)
RAW = TOKEN.encode()
SPACED_HEADER = base64.urlsafe_b64encode(b'{ \n "alg": "RS256"}').decode().rstrip("=")
PRETTY = f"{SPACED_HEADER}.{TOKEN.partition('.')[2]}"


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def lines_of(text: str, width: int, end: str = "\n") -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


JWE = part({"alg": "RSA-OAEP", "enc": "A256GCM"})

MISTAKES: dict[str, list[str | bytes]] = {
    "quoted": [f'"{TOKEN}"', f"'{TOKEN}'\n", f"`{TOKEN}`", f"\u201c{TOKEN}\u201d", f'b"{TOKEN}"', f'"{PRETTY}",'],
    "json": [
        json.dumps({"count": 1, "value": TOKEN}),
        json.dumps({"data": {"tokens": [{"token": TOKEN}]}}, indent=2),
        json.dumps([TOKEN]),
        json.dumps({"an odd name\x1b": TOKEN}),
        json.dumps({"status": {"token": TOKEN}, "kind": "TokenRequest"}),
        json.dumps({"header": f"Bearer {TOKEN}"}),
        "{}",
        "[]",
        '{"count": 1}',
    ],
    "json_error": ['{"statusCode": 401, "x": "y"}', '{"error": "invalid_request"}', '{"Message": "denied"}'],
    "scheme": [
        f"Bearer {TOKEN}",
        f"bearer  {TOKEN}",
        f"Authorization: Bearer {TOKEN}",
        f"Bearer: {TOKEN}",
        f"JWT {TOKEN}",
    ],
    "assignment": [
        f"TOKEN={TOKEN}",
        f'export TOKEN="{TOKEN}"',
        f"token: {TOKEN}",
        f"$env:T = '{TOKEN}'",
        f"A_B={TOKEN};",
    ],
    "text_behind": [f"{TOKEN} 11:11:49 \u2026 EOF", f"{TOKEN}\nwritten", f"{TOKEN}%", f"{TOKEN}\u200b", f"{TOKEN}\n."],
    "text_before": [
        f"11:11:49 fetching\n{TOKEN}",
        f"\x1b[0m{TOKEN}",
        f"\u200b{TOKEN}",
        f"HTTP/1.1 200 OK\r\n\r\n{TOKEN}",
    ],
    "text_around": [f"a\n{TOKEN}\nb", f"<{TOKEN}>", f'token "{TOKEN}" fetched'],
    "several": [TOKEN + TOKEN, f"{TOKEN}\n{TOKEN}", f"{TOKEN} {TOKEN} {TOKEN}", f"{TOKEN},{TOKEN}", TOKEN * 3],
    "wrapped": [lines_of(TOKEN, 76), lines_of(TOKEN, 64, "\r\n")],
    "null": ["null", '"null"', "undefined\n", "None", "<nil>"],
    "base64": [
        base64.b64encode(RAW),
        base64.urlsafe_b64encode(RAW),
        base64.encodebytes(RAW),
        base64.b64encode(RAW + b"\n"),
    ],
    "utf16": [TOKEN.encode("utf-16"), TOKEN.encode("utf-16-le"), TOKEN.encode("utf-16-be"), TOKEN.encode("utf-32")],
    "html": ["<!DOCTYPE html>\n<p>Sign in</p>", "<html>", "<HTML lang=en>", "<!doctype html>" + "x" * MAX_TOKEN_BYTES],
    "xml": ['<?xml version="1.0"?><Error/>', "<Error><Code>AccessDenied</Code></Error>"],
    "encrypted": [f"{JWE}.a.b.c.d", f"{JWE}..b.c.d"],
    "pem": ["-----BEGIN CERTIFICATE-----\nMIIB", "-----BEGIN EC PRIVATE KEY-----\n"],
    "compressed": [gzip.compress(RAW), b"PK\x03\x04xx", b"BZh91AY", b"\x28\xb5\x2f\xfd\x00"],
    "path": ["/var/run/secrets/token", "./token", "~/token", r"C:\secrets\token"],
    "url": ["https://issuer.example.com/token?x=y", "file:///token"],
    "placeholder": ["${TOKEN}", "$TOKEN", "{{ .Values.token }}", "<your token>", "$(cat token)", "%TOKEN%", "<token>"],
    "opaque": [
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "glcbt-64_1a2b3c4d5e6f7g8h9i0j",
        "hvs.CAESIJ1h2u3i4o5p6a7s8d9f",
        "a" * 64,
    ],
    "text": [
        'Error from server (Forbidden): serviceaccounts "app" is forbidden',
        "curl: (22) The requested URL returned error: 401",
        "bash: jq: command not found\n",
        "fetching\tthe\ntoken",
        "Zugriff verweigert: \u00dc",
    ],
}
CASES = [(code, content) for code, contents in MISTAKES.items() for content in contents]


def refusal_of(content: str | bytes) -> TokenError:
    with pytest.raises(TokenError) as caught:
        decode_token(content.encode() if isinstance(content, str) else content, PATH)
    return caught.value


@pytest.mark.parametrize(("code", "content"), CASES, ids=[f"{code}-{index}" for index, (code, _) in enumerate(CASES)])
def test_mistake_in_a_token_file_is_reported(code: str, content: str | bytes) -> None:
    error = refusal_of(content)
    assert (error.reason, error.mistake) == ("malformed", code)
    assert str(error).startswith(f"{PATH} holds no JWT: ")
    assert "waiting" not in str(error)
    assert not any(secret in str(error) for secret in TOKEN.split("."))


def test_table_has_a_case_for_every_code() -> None:
    assert set(MISTAKES) == CODES


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"count": 1, "value": TOKEN}, ('"value"', "jq -r .value")),
        ({"data": {"tokens": [{"token": TOKEN}]}}, ('"data.tokens[0].token"', "jq -r .data.tokens[0].token")),
        ([TOKEN], ('"[0]"', "jq -r .[0]")),
    ],
)
def test_json_member_with_the_token_is_reported(document: Any, names: tuple[str, str]) -> None:
    error = refusal_of(json.dumps(document))
    assert names[0] in error.problem
    assert names[1] in error.fix


def test_unusual_member_name_is_not_shown() -> None:
    """Check that the member's name is hidden, because the name can be the secret."""
    assert "odd" not in str(refusal_of(json.dumps({"an odd name": TOKEN})))
    assert TOKEN[:20] not in str(refusal_of(json.dumps({TOKEN: TOKEN})))


@pytest.mark.parametrize("end", range(1, TOKEN.rindex("."), 7))
def test_truncated_token_is_not_a_mistake(end: int) -> None:
    """The writer may not have finished, so the next read may succeed."""
    error = refusal_of(RAW[:end])
    assert (error.reason, error.mistake) == ("malformed", None)


@pytest.mark.parametrize(
    "content",
    ["a.b.c", "!!!", "eyJ", "1.2.3", "hello", "token eyJhbGciOi", "\x01\x02 \x03", "\ufffd \ufffd"],
)
def test_unknown_content_is_malformed(content: str) -> None:
    error = refusal_of(content)
    assert (error.reason, error.mistake) == ("malformed", None)


@pytest.mark.parametrize("around", ["%s\n", "%s\r\n", "\ufeff%s", " %s "])
def test_token_with_surrounding_spaces_is_read(around: str) -> None:
    assert decode_token((around % TOKEN).encode(), PATH).raw == TOKEN


def test_long_unknown_content_has_the_reason_too_long() -> None:
    assert refusal_of("x" * (MAX_TOKEN_BYTES + 1)).reason == "too_long"


@given(st.binary() | st.text().map(str.encode))
@example(b"[" * 19_000)
@example(b'{"a":' * 3_000)
@example(zlib.compress(RAW))
@example(("ey" * 10_000).encode())
@example(("ey-------- " * 1_800).encode())
@example(f"{part([1])}.{part([1])}.c.d.e".encode())
@example(jwt_of({"sub": "x"}).encode())
def test_any_content_has_a_known_code_or_no_mistake(content: bytes) -> None:
    mistake = find_mistake(content)
    assert mistake is None or (mistake.code in CODES and mistake.problem and mistake.fix)
