"""
Represent the issuer's keys as one frozen value. Pure: new keys, claims and the time are arguments.

Rule: the newest key signs. An older public key is published until STS accepts no token that it signed.
"""

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM = "RS256"
"""The algorithm of kube-apiserver for RSA keys, which is also the only algorithm in EKS's discovery document."""

TOLERANCE_SECONDS = 300
"""Time after `exp` for which STS still accepts a token. The key must be published until then."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair. `signs_until` is the latest `exp` among the tokens that the key signed, in Unix seconds."""

    private_key: RSAPrivateKey = field(repr=False)
    kid: str
    signs_until: float = 0.0


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys, newest first. The first key signs."""

    keys: tuple[SigningKey, ...]

    @property
    def active(self) -> SigningKey:
        return self.keys[0]

    def signed(self, claims: dict[str, Any]) -> tuple[str, "KeySet"]:
        """Return a JWT with the claims, and a new key set, which records how long the JWT needs its key."""
        key = self.active
        token = jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"kid": key.kid})
        used = replace(key, signs_until=max(key.signs_until, claims["exp"]))
        return token, KeySet((used, *self.keys[1:]))

    def rotated(self, new: SigningKey, now: float) -> "KeySet":
        """Return the key set with `new` as the first key, and without the keys that no valid token needs."""
        return KeySet((new, *self.keys)).pruned(now)

    def pruned(self, now: float) -> "KeySet":
        needed = (key for key in self.keys[1:] if now <= key.signs_until + TOLERANCE_SECONDS)
        return KeySet((self.active, *needed))

    def jwks(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517). STS rejects a key with `key_ops` or with a `use` other than `sig`."""
        return {"keys": [_jwk(key) for key in self.keys]}


def signing_key(private_key: RSAPrivateKey) -> SigningKey:
    return SigningKey(private_key, key_id(private_key.public_key()))


def key_id(public_key: RSAPublicKey) -> str:
    """Return kube-apiserver's key id: base64url of the SHA-256 of the DER public key (pkg/serviceaccount/jwt.go)."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _base64url(hashlib.sha256(der).digest())


def _jwk(key: SigningKey) -> dict[str, str]:
    numbers = key.private_key.public_key().public_numbers()
    return {
        "use": "sig",
        "kty": "RSA",
        "kid": key.kid,
        "alg": ALGORITHM,
        "n": _base64url_integer(numbers.n),
        "e": _base64url_integer(numbers.e),
    }


def _base64url_integer(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
