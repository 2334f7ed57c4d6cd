"""Test the checks of an issuer's URL, discovery document and key set."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.setup.issuer_checks import discovery_concerns, fatal, key_concerns, url_concerns
from tests.unit.setup.conftest import ISSUER, KEY, discovery

EC_KEY = {"kty": "EC", "crv": "P-256", "kid": "e1", "x": "AA", "y": "AA"}


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://oidc.example.com", "it is not https"),
        ("oidc.example.com", "it is not https"),
        ("https://", "it is not https"),
        ("https://oidc.example.com:443", "it names a port"),
        ("https://oidc.example.com:", "it names a port"),
        ("https://oidc.example.com:x", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://oidc.example.com?a=b", "it has a query"),
        ("https://oidc.example.com?", "it has a query"),
        ("https://oidc.example.com/#", "a fragment"),
        ("https://me@oidc.example.com", "it contains a user name"),
        (f"https://oidc.example.com/{'a' * 240}", "it has 265 characters, and IAM accepts at most 255"),
        ("https://oidc.example.com/a b", "white space"),
        ("https://10.0.0.1", "in a private network"),
        ("https://127.0.0.1/id", "in a private network"),
        ("https://[fd00::1]", "in a private network"),
        ("https://api.cluster.local", "in a private network"),
        ("https://issuer", "in a private network"),
        ("https://kubernetes.default.svc.cluster.local", "the API server's default"),
        ("https://kubernetes.default.svc", "set the API server's --service-account-issuer"),
        ("https://localhost", "in a private network"),
    ],
)
def test_unusable_issuer_url_has_one_fatal_reason(url: str, word: str) -> None:
    (text,) = fatal(url_concerns(url))
    assert word in text
    assert url.encode("unicode_escape").decode() in text
    assert text.endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "https://oidc.eks.eu-west-1.amazonaws.com/id/5D3A0B1C",
        "https://oidc.eks.cn-north-1.amazonaws.com.cn/id/5D3A0B1C",
        "https://bucket.s3.eu-west-1.amazonaws.com",
        "https://oidc.example.com/",
        "https://8.8.8.8/id",
        f"https://oidc.example.com/{'a' * 230}",
    ],
)
def test_public_issuer_url_is_accepted(url: str) -> None:
    assert list(url_concerns(url)) == []


@pytest.mark.parametrize(
    ("document", "is_fatal", "word"),
    [
        (None, True, "is not a JSON object"),
        ([discovery()], True, "is not a JSON object"),
        (discovery(f"{ISSUER}/"), True, f"has the issuer '{ISSUER}/'"),
        ({}, True, "has the issuer None"),
        (discovery(jwks_uri=None), True, "has jwks_uri None"),
        (discovery(jwks_uri="http://oidc.example.com/keys"), True, "Publish the keys at an https URL"),
        (discovery(jwks_uri="https://172.18.0.2:6443/openid/v1/jwks"), True, "--service-account-jwks-uri"),
        (
            discovery(id_token_signing_alg_values_supported=["EdDSA"]),
            True,
            "signs with EdDSA: STS accepts RS256, RS384",
        ),
        (discovery(id_token_signing_alg_values_supported=[]), True, "signs with nothing"),
        (discovery(id_token_signing_alg_values_supported=["EdDSA", "ES384"]), None, ""),
        (discovery(response_types_supported=None), False, "lacks response_types_supported: add it"),
        (discovery(subject_types_supported="public"), False, "lacks subject_types_supported: add it"),
        (discovery(more=1), None, ""),
    ],
)
def test_discovery_document_problems_are_found(document: Any, *, is_fatal: bool | None, word: str) -> None:
    concerns = list(discovery_concerns(document, ISSUER))
    assert bool(concerns) is (is_fatal is not None)
    assert any(concern.is_fatal for concern in concerns) is bool(is_fatal)
    assert word in " ".join(concern.text for concern in concerns)


@pytest.mark.parametrize(
    ("keys", "is_fatal", "word"),
    [
        ([KEY], None, ""),
        ([EC_KEY], None, ""),
        ([EC_KEY | {"crv": "P-521", "alg": "ES512"}], None, ""),
        ([{name: KEY[name] for name in ("kty", "kid", "n", "e")}], None, ""),
        ([], True, 'has no list of "keys"'),
        (None, True, 'has no list of "keys"'),
        (
            ["x"],
            True,
            "Key number 1 of https://oidc.example.com/clusters/shop verifies no token: it is not a JSON object",
        ),
        ([KEY, {"kty": "RSA", "n": "A", "e": "A"}], False, "Key number 2"),
        ([KEY, KEY | {"kid": "k2", "use": "enc"}], False, "The key k2"),
        ([KEY, KEY | {"kid": "k2", "key_ops": ["verify"]}], False, "it has key_ops"),
        ([KEY, KEY | {"kid": "k2", "alg": "PS256"}], False, "its alg is 'PS256', and STS accepts RS256"),
        ([KEY, {"kty": "OKP", "crv": "Ed25519", "kid": "k2", "x": "A"}], False, "its type is OKP Ed25519"),
        ([KEY, EC_KEY | {"crv": ["P-256"]}], False, "its type is EC ['P-256']"),
        ([KEY, EC_KEY | {"crv": "secp256k1"}], False, "its type is EC secp256k1"),
        ([KEY, KEY], False, "publishes 2 keys with kid k1"),
        ([KEY | {"kid": f"k{number}"} for number in range(100)], None, ""),
        ([KEY | {"kid": f"k{number}"} for number in range(101)], True, "publishes 101 RSA keys"),
        ([KEY | {"use": "enc"}], True, "None of the 1 keys"),
    ],
)
def test_key_set_problems_are_found(keys: Any, *, is_fatal: bool | None, word: str) -> None:
    concerns = list(key_concerns({"keys": keys}, ISSUER))
    assert bool(concerns) is (is_fatal is not None)
    assert any(concern.is_fatal for concern in concerns) is bool(is_fatal)
    assert word in " ".join(concern.text for concern in concerns)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([KEY.get(name, "x"), EC_KEY.get(name)]) | _JSON for name in [*KEY, *EC_KEY]}
)


@given(
    _JSON | st.fixed_dictionaries({"keys": st.lists(_KEYS | _JSON, max_size=4)}),
    st.dictionaries(st.sampled_from([*discovery()]), _JSON),
)
def test_every_concern_is_a_sentence(keys: Any, document: Any) -> None:
    for concern in [*key_concerns(keys, ISSUER), *discovery_concerns(discovery() | document, ISSUER)]:
        assert concern.text.endswith((".", "add it."))


@given(
    st.text(max_size=20)
    | st.text(st.sampled_from("htps:/[]@?#.%a1\\"), max_size=20).map(lambda text: f"https://{text}")
)
def test_any_url_has_at_most_one_fatal_reason(url: str) -> None:
    assert len(fatal(url_concerns(url))) <= 1
