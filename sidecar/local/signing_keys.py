"""
The issuer's keys as one frozen value. Pure: new keys, claims and the time come in as arguments.

Invariant: the newest key signs, and an older public key stays published until the last token that it signed can
no longer be accepted anywhere.
"""

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM = "RS256"
"""What kube-apiserver signs with when its key is RSA, and the one algorithm that EKS announces."""

TOLERANCE_SECONDS = 300
"""STS accepts a token this long after its `exp`, so its key must still be there."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. `signs_until` is the latest `exp` among the tokens that it signed, in Unix seconds."""

    private_key: RSAPrivateKey = field(repr=False)
    kid: str
    signs_until: float = 0.0


@dataclass(frozen=True, slots=True)
class KeySet:
    """Newest first; the first one signs."""

    keys: tuple[SigningKey, ...]

    @property
    def active(self) -> SigningKey:
        return self.keys[0]

    def signed(self, claims: dict[str, Any]) -> tuple[str, "KeySet"]:
        """A JWT of these claims, which hold an `exp`, and the set that remembers how long its key is needed."""
        key = self.active
        token = jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"kid": key.kid})
        used = replace(key, signs_until=max(key.signs_until, claims["exp"]))
        return token, KeySet((used, *self.keys[1:]))

    def rotated(self, new: SigningKey, now: float) -> "KeySet":
        """With `new` in front, and without the keys that no acceptable token needs any more."""
        return KeySet((new, *self.keys)).pruned(now)

    def pruned(self, now: float) -> "KeySet":
        needed = (key for key in self.keys[1:] if now <= key.signs_until + TOLERANCE_SECONDS)
        return KeySet((self.active, *needed))

    def jwks(self) -> dict[str, Any]:
        """The public halves (RFC 7517). STS refuses a key with `key_ops`, or with a `use` other than `sig`."""
        return {"keys": [_jwk(key) for key in self.keys]}


def signing_key(private_key: RSAPrivateKey) -> SigningKey:
    return SigningKey(private_key, key_id(private_key.public_key()))


def key_id(public_key: RSAPublicKey) -> str:
    """As kube-apiserver names its keys: base64url of SHA-256 of the DER public key (pkg/serviceaccount/jwt.go)."""
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
