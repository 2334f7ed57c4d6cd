"""Test STS's requirements for published keys. A correct issuer never breaks these requirements."""

import json
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from sidecar.local.signing_keys import KeySet, signing_key
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.oidc.verification import NO_KEY, Jwk, Provider, parse_token, verify_token

PROVIDER = Provider("https://oidc.test", ("sts.amazonaws.com",), "111122223333")
CLAIMS = {"iss": "https://oidc.test", "sub": "someone", "aud": "sts.amazonaws.com", "iat": 1000, "exp": 2000}

Pair = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pair(private_keys: list[RSAPrivateKey]) -> Pair:
    """Return a token, and the key that verifies it."""
    token, keys = KeySet((signing_key(private_keys[0]),)).signed(CLAIMS)
    return token, keys.jwks()["keys"][0]


def verify(token: str, keys: Sequence[Jwk]) -> str:
    return verify_token(parse_token(token), PROVIDER, keys, 1500.0).subject


def test_token_with_a_published_key_is_valid(pair: Pair) -> None:
    token, key = pair
    assert verify(token, [key]) == "someone"
    assert verify(token, [{name: key[name] for name in ("kid", "kty", "n", "e")}]) == "someone"


def test_last_of_several_keys_with_one_kid_is_used(pair: Pair, private_keys: list[RSAPrivateKey]) -> None:
    token, key = pair
    other = KeySet((signing_key(private_keys[1]),)).jwks()["keys"][0] | {"kid": key["kid"]}
    assert verify(token, [other, key]) == "someone"
    with pytest.raises(StsRejection) as caught:
        verify(token, [key, other])
    assert caught.value.code == "InvalidIdentityToken"


@pytest.mark.parametrize("change", [{"use": "enc"}, {"key_ops": ["verify"]}])
def test_key_for_another_use_does_not_verify(pair: Pair, change: dict[str, Any]) -> None:
    token, key = pair
    with pytest.raises(StsRejection) as caught:
        verify(token, [key | change])
    assert str(caught.value) == NO_KEY


def test_more_than_100_rsa_keys_are_rejected(pair: Pair) -> None:
    token, key = pair
    assert verify(token, [{"kty": "RSA", "kid": str(n)} for n in range(99)] + [key]) == "someone"
    with pytest.raises(StsRejection) as caught:
        verify(token, [{"kty": "RSA", "kid": str(n)} for n in range(100)] + [key])
    assert str(caught.value) == NO_KEY


@pytest.mark.parametrize("invalid", [{"n": "!"}, {"n": None}, {"kty": "oct", "k": "eA"}, {"kty": "EC", "crv": "P-256"}])
def test_invalid_key_is_rejected(pair: Pair, invalid: dict[str, Any]) -> None:
    token, key = pair
    with pytest.raises(StsRejection) as caught:
        verify(token, [key | invalid])
    assert caught.value.code == "InvalidIdentityToken"


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())]
)
def test_keys_on_elliptic_curves_are_accepted(algorithm: str, curve: ec.EllipticCurve) -> None:
    private = ec.generate_private_key(curve)
    token = jwt.encode(CLAIMS, private, algorithm=algorithm, headers={"kid": "e"})
    public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    key = {name: value for name, value in public.items() if name != "key_ops"} | {"kid": "e"}
    assert verify(token, [key]) == "someone"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
def test_signatures_with_longer_digests_are_accepted(
    pair: Pair, private_keys: list[RSAPrivateKey], algorithm: str
) -> None:
    kid = pair[1]["kid"]
    token = jwt.encode(CLAIMS, private_keys[0], algorithm=algorithm, headers={"kid": kid})
    key = {name: value for name, value in pair[1].items() if name != "alg"}
    assert verify(token, [key]) == "someone"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_CLAIMS = st.dictionaries(st.sampled_from([*CLAIMS, "azp", "nbf", "amr"]), _JSON)


@given(changes=_CLAIMS)
def test_any_claims_are_accepted_or_rejected(private_keys: list[RSAPrivateKey], changes: dict[str, Any]) -> None:
    key = signing_key(private_keys[0])
    payload = json.dumps(CLAIMS | changes).encode()
    token = jwt.PyJWS().encode(payload, key.private_key, algorithm="RS256", headers={"kid": key.kid})
    try:
        outcome = verify(token, KeySet((key,)).jwks()["keys"])
    except StsRejection as rejection:
        outcome = rejection.code
    assert outcome in {"InvalidIdentityToken", "ExpiredTokenException", str((CLAIMS | changes)["sub"])}


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_text_is_rejected_as_a_token(raw: str) -> None:
    with pytest.raises(StsRejection):
        parse_token(raw)
