"""Test the decoding of tokens, the claims, and the warnings about the claims."""

import base64
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.clock import instant_text
from sidecar.errors import TokenError
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.oidc.verification import Provider, _audience, parse_token
from sidecar.token import MAX_TOKEN_BYTES, STS_TOLERANCE_SECONDS, Token, decode_token, read_token, warning_from_claims
from tests.support.fakes.tokens import jwt_of, service_account_claims, service_account_token

NOW = 1_800_000_000.0
PATH = "/var/run/secrets/token"


def refusal_at(path: str | Path) -> TokenError:
    with pytest.raises(TokenError) as caught:
        read_token(str(path))
    return caught.value


def refusal_of(content: str | bytes) -> TokenError:
    with pytest.raises(TokenError) as caught:
        decode_token(content.encode() if isinstance(content, str) else content, PATH)
    return caught.value


def token_with(**changes: Any) -> Token:
    return decode_token(service_account_token(NOW, **changes).encode(), PATH)


@pytest.mark.parametrize(
    "around",
    [b"%s\n", b"%s\r\n", b"  %s\t\n\n", b"\xef\xbb\xbf%s", b"\xef\xbb\xbf%s\r\n"],
    ids=["newline", "crlf", "blanks", "bom", "bom and crlf"],
)
def test_byte_order_mark_and_spaces_are_stripped(around: bytes) -> None:
    raw = service_account_token(NOW)
    assert decode_token(around % raw.encode(), PATH).raw == raw


@pytest.mark.parametrize("content", [b"", b"\n", b" \t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_error_for_an_empty_file_has_the_reason_empty(content: bytes) -> None:
    error = refusal_of(content)
    assert error.reason == "empty"
    assert "waiting" not in str(error)


def test_truncated_token_is_malformed() -> None:
    raw = service_account_token(NOW).encode()
    for end in range(1, raw.rindex(b".") + 1):
        assert refusal_of(raw[:end]).reason == "malformed"


def test_token_with_one_byte_too_many_is_rejected() -> None:
    raw = service_account_token(NOW)
    longest = raw + "A" * (MAX_TOKEN_BYTES - len(raw))
    assert decode_token(longest.encode(), PATH).raw == longest
    assert refusal_of(longest.encode() + b"A").reason == "too_long"


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"    ", b"\r\n\r\n", b"!!!!", b"\0\0\0\0", b"===="])
def test_bytes_that_base64_ignores_are_rejected(junk: bytes) -> None:
    raw = service_account_token(NOW).encode()
    for place in (4, raw.index(b".") + 5, raw.rindex(b".") + 5):
        content = raw[:place] + junk + raw[place:]
        assert refusal_of(content).reason == "malformed"


@pytest.mark.parametrize("claims", [[], "text", 1, None, True])
def test_claims_that_are_not_an_object_are_rejected(claims: Any) -> None:
    assert refusal_of(jwt_of(claims)).reason == "malformed"


@pytest.mark.parametrize("nested", ['{"a":' * 2000 + "1" + "}" * 2000, "[" * 7000, '{"a":' + "[" * 7000])
def test_deeply_nested_claims_are_rejected_or_ignored(nested: str) -> None:
    """Accept both results, because Python 3.11 rejects a depth that Python 3.13 accepts."""
    header, _, signature = service_account_token(NOW).split(".")
    payload = base64.urlsafe_b64encode(nested.encode()).rstrip(b"=").decode()
    with suppress(TokenError):
        assert decode_token(f"{header}.{payload}.{signature}".encode(), PATH).subject is None


def test_number_too_long_for_python_is_rejected() -> None:
    header, _, signature = service_account_token(NOW).split(".")
    payload = base64.urlsafe_b64encode(b'{"exp":' + b"9" * 5000 + b"}").rstrip(b"=").decode()
    assert refusal_of(f"{header}.{payload}.{signature}").reason == "malformed"


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_CLAIM = st.sampled_from(["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "kubernetes.io"])


@given(st.binary())
@example(b"..")
@example(b"a.b.c")
@example(b"eyJ9.eyJ9.eyJ9")
def test_any_bytes_raise_only_token_errors(content: bytes) -> None:
    with pytest.raises(TokenError):
        decode_token(content, PATH)


@given(st.binary(), st.binary(), st.binary())
def test_any_three_parts_raise_only_token_errors(header: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(TokenError):
        decode_token(b".".join(map(_base64url, (header, payload, signature))), PATH)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x5c"]), _JSON))
def test_any_header_raises_only_token_errors(header: dict[str, Any]) -> None:
    try:
        token = decode_token(jwt_of(service_account_claims(NOW), header).encode(), PATH)
    except TokenError:
        return
    assert token.pod == "cart-7d4b9c-x2x9z"


@given(st.dictionaries(_CLAIM, _JSON))
def test_parsed_claims_always_have_the_declared_types(claims: dict[str, Any]) -> None:
    token = decode_token(jwt_of(claims).encode(), PATH)
    for number in (token.issued_at, token.not_before, token.expires_at):
        assert number is None or (type(number) is float and math.isfinite(number))
    for text in (token.issuer, token.subject, token.namespace, token.service_account, token.pod):
        assert text is None or (type(text) is str and text)
    assert all(type(audience) is str for audience in token.audiences)
    warning_from_claims(token, NOW)  # the warnings must not raise for any claims


def _with_number(text: str) -> bytes:
    """Return a token whose `exp` is this text, which no JSON library writes."""
    payload = json.dumps(service_account_claims(NOW) | {"exp": 0}).replace('"exp": 0', f'"exp": {text}')
    header, _, signature = service_account_token(NOW).encode().split(b".")
    return b".".join([header, _base64url(payload.encode()), signature])


@pytest.mark.parametrize(
    ("text", "expires_at"),
    [
        ("1800003600", 1_800_003_600.0),
        ("1800003600.5", 1_800_003_600.5),
        ("-1", -1.0),
        ('"1800003600"', None),
        ('"abc"', None),
        ("true", None),
        ("null", None),
        ("[1]", None),
        ("1e400", None),
        ("-1e400", None),
        ("NaN", None),
        ("1" + "0" * 400, None),
    ],
)
def test_expiration_must_be_a_finite_number(text: str, expires_at: float | None) -> None:
    assert decode_token(_with_number(text), PATH).expires_at == expires_at


@pytest.mark.parametrize(
    ("aud", "audiences"),
    [
        ("sts.amazonaws.com", ("sts.amazonaws.com",)),
        (["a", "sts.amazonaws.com"], ("a", "sts.amazonaws.com")),
        (["a", 1, None, ["b"]], ("a",)),
        ([], ()),
        (7, ()),
        ({"sts.amazonaws.com": 1}, ()),
    ],
)
def test_audience_is_a_text_or_a_list_of_texts(aud: Any, audiences: tuple[str, ...]) -> None:
    assert token_with(aud=aud).audiences == audiences


AUDIENCES: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "Kubernetes": ({"aud": ["sts.amazonaws.com"]}, "sts.amazonaws.com", "aud"),
    "Google": (
        {"aud": "8.apps.googleusercontent.com", "azp": "7.apps.googleusercontent.com"},
        "7.apps.googleusercontent.com",
        "azp",
    ),
    "Google service account": (
        {"aud": "https://aws.example.com", "azp": "113774264463038321964"},
        "113774264463038321964",
        "azp",
    ),
    "Azure v1": ({"aud": "api://aws", "appid": "6e74172b"}, "api://aws", "aud"),
    "Azure v2": ({"aud": "0b1c-api", "azp": "6e74172b", "azpacr": "1"}, "6e74172b", "azp"),
    "Keycloak": ({"aud": "account", "azp": "aws-cli"}, "aws-cli", "azp"),
    "Keycloak with two audiences": ({"aud": ["account", "realm-management"], "azp": "aws-cli"}, "aws-cli", "azp"),
    "Auth0": ({"aud": ["https://api.example.com", "https://t.auth0.com/userinfo"], "azp": "AbC"}, "AbC", "azp"),
    "no azp": ({"aud": ["a", "b"]}, None, "aud"),
    "null": ({"aud": "a", "azp": None}, "a", "aud"),
    "empty": ({"aud": "a", "azp": ""}, None, "azp"),
    "a number": ({"aud": "a", "azp": 5}, None, "azp"),
    "a list": ({"aud": "a", "azp": ["a"]}, None, "azp"),
    "false": ({"aud": "a", "azp": False}, None, "azp"),
    "azp without aud": ({"aud": None, "azp": "a"}, None, "azp"),
    "empty aud": ({"aud": [], "azp": "a"}, None, "azp"),
}


@pytest.mark.parametrize(("claims", "audience", "claim"), AUDIENCES.values(), ids=AUDIENCES)
def test_audience_is_azp_if_the_token_has_one(claims: dict[str, Any], audience: str | None, claim: str) -> None:
    token = token_with(**claims)
    assert (token.audience, token.audience_claim) == (audience, claim)
    assert (token.audience_problem is None) is (audience is not None)


@pytest.mark.parametrize("claims", [claims for claims, _, _ in AUDIENCES.values()], ids=AUDIENCES)
def test_audience_equals_the_audience_in_local_sts(claims: dict[str, Any]) -> None:
    """Compare with our local STS, whose behaviour matches recorded responses of the real STS."""
    token = token_with(**claims)
    provider = Provider(token.issuer or "", ("a", token.audience or "none"), "111122223333")
    sts_audience = None
    with suppress(StsRejection):
        sts_audience = _audience(parse_token(token.raw).claims, provider)
    assert sts_audience == token.audience


@pytest.mark.parametrize("kubernetes", [None, "text", [], {"pod": "text"}, {"pod": {"name": 7}}, {"pod": {"name": ""}}])
def test_token_without_pod_is_accepted(kubernetes: Any) -> None:
    token = token_with(**{"kubernetes.io": kubernetes})
    assert token.pod is None
    assert token.subject == "system:serviceaccount:shop:cart"


def test_repr_and_errors_hide_the_token() -> None:
    raw = service_account_token(NOW)
    assert raw not in repr(decode_token(raw.encode(), PATH))
    parts = raw.split(".")
    for content in (raw[:-100], "x" + raw, raw + ".x", f"{parts[0]}.{parts[1]}A.{parts[2]}"):
        error = refusal_of(content)
        assert not any(part in str(error) + repr(error) for part in parts)


# Warnings about claims

SOUND = token_with()


@pytest.mark.parametrize(
    ("token", "now", "warning"),
    [
        (SOUND, NOW, None),
        (SOUND, NOW + 3600 + STS_TOLERANCE_SECONDS, None),
        (SOUND, NOW + 3600 + STS_TOLERANCE_SECONDS + 1, "expired at 2027-01-15T09:00:00Z"),
        (SOUND, NOW - STS_TOLERANCE_SECONDS, None),
        (SOUND, NOW - STS_TOLERANCE_SECONDS - 1, "issued in the future, at 2027-01-15T08:00:00Z"),
        (SOUND._replace(issued_at=None), NOW - 7200, None),
        (SOUND._replace(expires_at=None), NOW, "never expires"),
        (SOUND._replace(audiences=("sts.amazonaws.com.cn",)), NOW, None),
        (SOUND._replace(audiences=("vault", "sts.amazonaws.com")), NOW, "several audiences (vault, sts.amazonaws.com)"),
        (SOUND._replace(audiences=("vault",)), NOW, "audience (aud) is vault, not"),
        (SOUND._replace(audiences=()), NOW, "has no aud"),
        (SOUND._replace(audiences=("vault", "x"), authorized_party="sts.amazonaws.com"), NOW, None),
        (SOUND._replace(authorized_party="party"), NOW, "audience (azp) is party, not"),
        (SOUND._replace(authorized_party=""), NOW, "azp is empty or is not a string"),
    ],
)
def test_claims_that_sts_rejects_cause_a_warning(token: Token, now: float, warning: str | None) -> None:
    found = warning_from_claims(token, now)
    assert found is None if warning is None else warning in (found or "")


@pytest.mark.parametrize(
    ("unix_seconds", "text"),
    [
        (NOW, "2027-01-15T08:00:00Z"),
        (NOW + 0.9, "2027-01-15T08:00:00Z"),
        (0.0, "1970-01-01T00:00:00Z"),
        (1e300, "1e+300"),
    ],
)
def test_instant_is_shown_as_a_date_or_a_number(unix_seconds: float, text: str) -> None:
    assert instant_text(unix_seconds) == text
