"""
Check the requirements of STS for an issuer's URL, discovery document and key set. Pure.

Rule: with a fatal concern, STS can never exchange any token of the issuer. Other concerns affect some tokens or none.
Sources: IAM User Guide ("Create an OpenID Connect identity provider"), IAM and STS API references
(CreateOpenIDConnectProvider, AssumeRoleWithWebIdentity), OpenID Connect Discovery 1.0, RFC 7517.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.oidc.verification import ALGORITHMS

DISCOVERY_PATH = "/.well-known/openid-configuration"
MAX_URL_CHARACTERS = 255
MAX_KEYS = 100
"""Maximum number of keys of one type that STS reads. If an issuer publishes more, STS ignores all keys of that type."""

_CURVES = ("P-256", "P-384", "P-521")
"""The elliptic curves that ES256, ES384 and ES512 use (RFC 7518, 3.4)."""

_USABLE = f"STS accepts {', '.join(ALGORITHMS)}"
_EXPECTED = ("response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported")
"""The members that OpenID Connect and IAM's guide require in a discovery document, besides the issuer and its keys."""

_PRIVATE_SUFFIXES = ("localhost", ".localhost", ".local", ".internal", ".svc", ".cluster.local")


class Concern(NamedTuple):
    """A problem with an issuer. `text` is a sentence."""

    is_fatal: bool
    text: str


def fatal(concerns: Iterable[Concern]) -> list[str]:
    return [concern.text for concern in concerns if concern.is_fatal]


def url_concerns(issuer: str) -> Iterator[Concern]:
    """Yield the first reason why IAM or STS would reject the URL. This concern is always fatal."""
    try:
        parts = urlsplit(issuer)
        port, host = parts.port, parts.hostname or ""
    except ValueError as exc:
        yield Concern(is_fatal=True, text=f"The issuer {issuer!r} is not a URL ({exc}): use the `iss` of its tokens.")
        return
    wrong = {
        f"it is not https, and STS fetches keys only by https: {_publish(host)}": parts.scheme != "https" or not host,
        "it names a port, which IAM rejects: serve the issuer on port 443, and leave the port out of its URL": (
            port is not None or parts.netloc.endswith(":")
        ),
        "it has a query or a fragment, which IAM rejects": bool(parts.query or parts.fragment)
        or issuer.endswith(("?", "#")),
        "it contains a user name, which IAM rejects": "@" in parts.netloc,
        f"it has {len(issuer)} characters, and IAM accepts at most {MAX_URL_CHARACTERS}": len(issuer)
        > MAX_URL_CHARACTERS,
        "it contains * or $, which IAM reads as a wildcard or a policy variable": bool({"*", "$"} & {*issuer}),
        "it contains white space or control characters": any(c <= " " or c == "\x7f" for c in issuer),
        f"it is in a private network, where STS cannot fetch its keys: {_publish(host)}": is_private(host),
    }
    reason = next((text for text, is_wrong in wrong.items() if is_wrong), None)
    if reason:
        yield Concern(is_fatal=True, text=f"The issuer {issuer} cannot be an IAM OIDC provider: {reason}.")


def is_private(host: str) -> bool:
    """Return whether a name or an address has a form that only private networks use."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return bool(host) and ("." not in host.rstrip(".") or host.rstrip(".").endswith(_PRIVATE_SUFFIXES))


def discovery_concerns(document: Any, issuer: str) -> Iterator[Concern]:
    """Yield each problem that STS or IAM could have with the discovery document."""
    if not isinstance(document, Mapping):
        yield Concern(is_fatal=True, text=f"The discovery document of {issuer} is not a JSON object.")
        return
    found, keys = document.get("issuer"), document.get("jwks_uri")
    if found != issuer:
        yield Concern(
            is_fatal=True,
            text=f"The discovery document of {issuer} has the issuer {found!r}: both URLs must equal the `iss` of "
            "tokens exactly.",
        )
    if not isinstance(keys, str) or not keys.startswith("https://"):
        yield Concern(
            is_fatal=True,
            text=f"The discovery document of {issuer} has jwks_uri {keys!r}. Publish the keys at an https URL.",
        )
    elif is_private(urlsplit(keys).hostname or ""):
        yield Concern(
            is_fatal=True,
            text=f"The discovery document of {issuer} has jwks_uri {keys}, which STS cannot reach: set the API "
            "server's --service-account-jwks-uri to where the keys are published.",
        )
    yield from _expected_concerns(document, issuer)


def _expected_concerns(document: Mapping[str, Any], issuer: str) -> Iterator[Concern]:
    missing = [name for name in _EXPECTED if not isinstance(document.get(name), list)]
    if missing:
        yield Concern(is_fatal=False, text=f"The discovery document of {issuer} lacks {', '.join(missing)}: add it.")
    signs_with = document.get("id_token_signing_alg_values_supported")
    if isinstance(signs_with, list) and not set(map(str, signs_with)) & set(ALGORITHMS):
        yield Concern(
            is_fatal=True, text=f"{issuer} signs with {', '.join(map(str, signs_with)) or 'nothing'}: {_USABLE}."
        )


def key_concerns(document: Any, issuer: str) -> Iterator[Concern]:
    """Yield each reason why STS could not verify tokens with the key set."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list) or not keys:
        yield Concern(
            is_fatal=True, text=f'The key set of {issuer} has no list of "keys", so no token can be verified.'
        )
        return
    problems = [(_name(key, index), _key_problem(key)) for index, key in enumerate(keys, 1)]
    for name, problem in problems:
        if problem:
            yield Concern(is_fatal=False, text=f"{name} of {issuer} verifies no token: {problem}.")
    if all(problem for _, problem in problems):
        yield Concern(is_fatal=True, text=f"None of the {len(keys)} keys of {issuer} can verify a token at STS.")
    yield from _set_concerns([key for key in keys if isinstance(key, Mapping)], issuer)


def _set_concerns(keys: list[Mapping[str, Any]], issuer: str) -> Iterator[Concern]:
    for kid, count in Counter(key["kid"] for key in keys if isinstance(key.get("kid"), str)).items():
        if count > 1:
            yield Concern(
                is_fatal=False, text=f"{issuer} publishes {count} keys with kid {kid}: STS uses only the last of them."
            )
    for kind, count in Counter(str(key.get("kty")) for key in keys).items():
        if count > MAX_KEYS:
            yield Concern(
                is_fatal=True,
                text=f"{issuer} publishes {count} {kind} keys: with more than {MAX_KEYS} STS uses none of them.",
            )


def _key_problem(key: Any) -> str | None:
    """Return the reason why STS cannot use the key, or None if STS can use it."""
    if not isinstance(key, Mapping):
        return "it is not a JSON object"
    algorithm = key.get("alg")
    problems = {
        "it lacks a kid, which tokens contain to name their key": not isinstance(key.get("kid"), str) or not key["kid"],
        f'its use is {key.get("use")!r}, and must be "sig"': key.get("use", "sig") != "sig",
        "it has key_ops, and STS rejects keys with key_ops": "key_ops" in key,
        f"its alg is {algorithm!r}, and {_USABLE}": algorithm is not None and algorithm not in ALGORITHMS,
        f"its type is {_kind(key)}, and {_USABLE}": not _is_usable_kind(key),
    }
    return next((text for text, is_wrong in problems.items() if is_wrong), None)


def _is_usable_kind(key: Mapping[str, Any]) -> bool:
    if key.get("kty") == "RSA":
        return all(isinstance(key.get(part), str) for part in ("n", "e"))
    return key.get("kty") == "EC" and key.get("crv") in _CURVES and all(isinstance(key.get(p), str) for p in ("x", "y"))


def _kind(key: Mapping[str, Any]) -> str:
    return " ".join(str(key[part]) for part in ("kty", "crv") if part in key) or "missing"


def _name(key: Any, index: int) -> str:
    kid = key.get("kid") if isinstance(key, Mapping) else None
    return f"The key {kid}" if isinstance(kid, str) and kid else f"Key number {index}"


def _publish(host: str) -> str:
    """Return the fix for an issuer that is not public. The API server's default issuer needs more steps."""
    if host.split(".", maxsplit=1)[0] != "kubernetes":
        return "publish the issuer's documents on the internet (`irsa-sidecar setup issuer-documents`)"
    return (
        "this is the API server's default, so choose a public https URL, publish the documents there "
        "(`irsa-sidecar setup issuer-documents`), and set the API server's --service-account-issuer to that URL"
    )
