"""Test that keys and tokens have the form that kube-apiserver gives them."""

import base64
import hashlib
import json
from functools import partial
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.local.issuer import rotate_keys
from sidecar.local.signing_keys import KeySet, signing_key
from sidecar.serving.http_message import Request
from tests.unit.local.conftest import ISSUER, World


def test_token_has_the_claims_of_a_kube_apiserver_token(world: World) -> None:
    parts = jwt.decode_complete(world.token(), options={"verify_signature": False})
    claims, now = parts["payload"], int(world.wall.time())
    assert parts["header"] == {"alg": "RS256", "kid": world.issuer.keys.active.kid, "typ": "JWT"}
    assert claims["iss"] == ISSUER
    assert claims["sub"] == "system:serviceaccount:default:app"
    assert claims["aud"] == ["sts.amazonaws.com"]
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now, now + 600)
    assert claims["kubernetes.io"]["namespace"] == "default"
    assert {kind: named["name"] for kind, named in claims["kubernetes.io"].items() if kind != "namespace"} == {
        "serviceaccount": "app",
        "pod": "app-0",
        "node": "local",
    }


def test_each_token_has_a_unique_id(world: World) -> None:
    ids = {jwt.decode(world.token(), options={"verify_signature": False})["jti"] for _ in range(3)}
    assert len(ids) == 3


def test_key_id_is_the_digest_of_the_public_key(private_keys: list[RSAPrivateKey]) -> None:
    der = private_keys[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    assert signing_key(private_keys[0]).kid == expected


def test_published_key_verifies_a_signed_token(private_keys: list[RSAPrivateKey]) -> None:
    token, keys = KeySet((signing_key(private_keys[0]),)).signed({"exp": 4_000_000_000, "sub": "x"})
    jwks = jwt.PyJWKSet.from_dict(keys.jwks())
    assert jwt.decode(token, jwks.keys[0], algorithms=["RS256"])["sub"] == "x"
    assert "d" not in keys.jwks()["keys"][0]


def test_old_key_is_published_until_its_tokens_expire(private_keys: list[RSAPrivateKey]) -> None:
    first, second, third = (signing_key(key) for key in private_keys)
    _, keys = KeySet((first,)).signed({"exp": 1000})
    _, keys = keys.signed({"exp": 500})
    keys = keys.rotated(second, now=400)
    assert [key.kid for key in keys.rotated(third, now=1300).keys] == [third.kid, first.kid]
    assert [key.kid for key in keys.rotated(third, now=1301).keys] == [third.kid]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
async def test_documents_have_the_same_headers_as_on_eks(world: World, path: str) -> None:
    response = await world.issuer.respond(Request("GET", path))
    assert response.status == 200
    assert response.content_type == {"/keys": "application/jwk-set+json"}.get(path, "application/json")
    assert dict(response.headers) == {"Cache-Control": "public, max-age=3600"}


async def test_discovery_document_has_the_fields_that_iam_needs(world: World) -> None:
    document = json.loads((await world.issuer.respond(Request("GET", "/.well-known/openid-configuration"))).body)
    assert document["issuer"] == ISSUER
    assert document["jwks_uri"] == f"{ISSUER}/keys"
    assert document["response_types_supported"] == ["id_token"]
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]


async def test_issuer_rejects_other_paths_and_methods(world: World) -> None:
    assert (await world.issuer.respond(Request("GET", "/"))).status == 404
    assert (await world.issuer.respond(Request("POST", "/keys"))).status == 405


async def test_keys_rotate_after_each_interval(
    world: World, private_keys: list[RSAPrivateKey], autojump_clock: object
) -> None:
    fresh, rotated_at, twice = iter(private_keys[1:]), [], trio.Event()

    def emit(event: str, /, **fields: Any) -> None:
        rotated_at.append((event, fields["kid"], fields["published_keys"]))
        if len(rotated_at) == 2:
            twice.set()

    world.token()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(rotate_keys, world.issuer, 60, emit=emit, generate=lambda: next(fresh)))
        await twice.wait()
        nursery.cancel_scope.cancel()
    kids = [signing_key(key).kid for key in private_keys]
    # The first key signed a token. The second key signed none, so the third key replaces the second.
    assert rotated_at == [("signing_keys_rotated", kids[1], 2), ("signing_keys_rotated", kids[2], 2)]
    assert trio.current_time() >= 120
