"""
The projected service account token: one bounded read of the file, and what its claims say.

The token is read anew right before every exchange and kept nowhere else. Its signature is not verified here:
that is STS's business. The claims serve for names, warnings and metrics, and never decide whether to try.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import jwt

from sidecar.clock import instant_text
from sidecar.errors import TokenError
from sidecar.files import read_regular_file

MAX_TOKEN_BYTES = 20_000
"""The longest WebIdentityToken that STS takes (AWS STS API reference, AssumeRoleWithWebIdentity)."""

STS_TOLERANCE_SECONDS = 300
"""How far off STS lets a token's times be (seen in recorded answers of the real service)."""

_COMPACT_JWS = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""RFC 7515, 3.1. Checked here, as Python's base64 passes over other bytes, and with it PyJWT up to 2.10 at least."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. Instants are Unix seconds; a claim that is absent or of the wrong type is None or empty."""

    raw: str = field(repr=False)
    issuer: str | None
    subject: str | None
    audiences: tuple[str, ...]
    authorized_party: str | None
    """`azp`. None if the claim is absent, and "" if it is empty or not text."""
    issued_at: float | None
    not_before: float | None
    expires_at: float | None
    namespace: str | None
    service_account: str | None
    pod: str | None
    pod_uid: str | None

    @property
    def audience_claim(self) -> str:
        """Return the name of the claim that STS compares with the client IDs of the IAM OIDC provider."""
        return "aud" if self.authorized_party is None else "azp"

    @property
    def audience(self) -> str | None:
        """
        Return what STS compares with the client IDs: `azp` where the token has one, else its only `aud`.

        None if STS cannot take the token for that. (IAM User Guide, "Available keys for AWS OIDC federation": `aud`.)
        """
        if self.audience_problem is not None:
            return None
        return self.audiences[0] if self.authorized_party is None else self.authorized_party

    @property
    def audience_problem(self) -> str | None:
        """Return why the token has no audience for STS, as a clause; None if it has one."""
        if not self.audiences:
            return "the token has no aud, which STS requires"
        if self.authorized_party == "":
            return "the token's azp is empty or is not text, and no client ID of a provider can be"
        if self.authorized_party is None and len(self.audiences) > 1:
            return f"the token has several audiences ({', '.join(self.audiences)}) and no azp, so STS cannot choose one"
        return None


def read_token(path: str) -> Token:
    """
    Read and decode the token at `path`. Raises TokenError.

    The kubelet swaps the `..data` symlink under the path: a read sees the old token or the new one whole, and
    for a moment may see neither, so a missing file is tried once more.
    """
    try:
        content = _read_bounded(path)
    except FileNotFoundError:
        content = _read_or_explain(path)
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return decode_token(content, path)


def decode_token(content: bytes, path: str) -> Token:
    """Turn the file's bytes into a Token. Raises TokenError when it is empty, too long or no JWT."""
    raw = content.removeprefix(b"\xef\xbb\xbf").strip()
    if not raw:
        raise TokenError("empty", f"{path} is empty", "See whether whatever writes the token is done")
    if len(content) > MAX_TOKEN_BYTES or _COMPACT_JWS.fullmatch(raw) is None:
        raise _no_token(path, content)
    try:
        claims = jwt.decode(raw, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError) as exc:  # the latter from older PyJWTs, for claims that nest deep
        raise TokenError("malformed", f"{path} holds no JWT: {exc}", _SEE_THE_WRITER) from exc
    return _from_claims(raw.decode("ascii"), claims)


def warning_from_claims(token: Token, now: float) -> str | None:
    """
    What STS will likely say about this token, in a sentence; None when it looks right.

    `now` is Unix seconds by STS's clock as far as that is known. STS forgives 300 s either way.
    """
    if token.expires_at is None:
        return "the token never expires: a legacy Secret token, not a projected one, which STS does not take"
    if now > token.expires_at + STS_TOLERANCE_SECONDS:
        return (
            f"the token expired at {instant_text(token.expires_at)} and was not renewed: is the volume mounted with "
            "subPath, or the kubelet not running?"
        )
    if token.issued_at is not None and token.issued_at > now + STS_TOLERANCE_SECONDS:
        return f"the token was issued in the future, at {instant_text(token.issued_at)}: check the clocks"
    if token.audience is None:
        return token.audience_problem
    if not token.audience.startswith("sts.amazonaws.com"):
        return (
            f"the token's audience ({token.audience_claim}) is {token.audience}, not sts.amazonaws.com: it must be one "
            "that the IAM OIDC provider accepts"
        )
    return None


def expired_at_start_warning(token: Token, now: float) -> str | None:
    """Return a sentence if the token had expired when the daemon read it first. `now` is Unix seconds."""
    if token.expires_at is None or now < token.expires_at:
        return None
    return (
        f"the token expired at {instant_text(token.expires_at)}, before the daemon started, and STS rejects it soon or "
        "already. Check what renews the file: the kubelet, or the job that wrote it"
    )


def _read_bounded(path: str) -> bytes:
    content = read_regular_file(path, MAX_TOKEN_BYTES + 1)
    if content is None:
        raise TokenError(
            "not_a_file", f"{path} is not a regular file", "Mount the volume at a directory, and name the file in it"
        )
    return content


def _read_or_explain(path: str) -> bytes:
    try:
        return _read_bounded(path)
    except OSError as exc:
        raise _unreadable(path, exc) from exc


_SEE_THE_WRITER = "See what writes that file"


def _no_token(path: str, content: bytes) -> TokenError:
    """Return the problem with content that is too long or is not a signed JWT."""
    from sidecar.token_mistake import find_mistake  # noqa: PLC0415  for files that hold no token

    mistake = find_mistake(content)
    if mistake is not None:
        return TokenError("malformed", f"{path} holds no JWT: {mistake.problem}", mistake.fix, mistake.code)
    if len(content) > MAX_TOKEN_BYTES:
        return TokenError("too_long", f"{path} holds more than {MAX_TOKEN_BYTES} bytes, STS's limit", _SEE_THE_WRITER)
    return TokenError("malformed", f"{path} holds no JWT: it is not three parts of base64url", _SEE_THE_WRITER)


def _unreadable(path: str, exc: OSError) -> TokenError:
    if isinstance(exc, FileNotFoundError):
        return TokenError(
            "missing",
            f"{path} does not exist (AWS_WEB_IDENTITY_TOKEN_FILE)",
            "Mount the projected token volume there, or correct the path",
        )
    if isinstance(exc, PermissionError):
        return _no_permission(path)
    return TokenError(
        "unreadable", f"{path} cannot be read: {exc.strerror or exc}", "Check the volume that is mounted there"
    )


def _no_permission(path: str) -> TokenError:
    """Name the user, the mode of the file and the field of the Pod that changes it."""
    try:
        status = os.stat(path)
        seen = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"
    except OSError:
        seen = "and neither may its directory be searched"
    return TokenError(
        "unreadable",
        f"{path} may not be read by uid {os.geteuid()}, gid {os.getegid()} ({seen})",
        "Set securityContext.fsGroup on the Pod, or the same runAsUser on all its containers",
    )


def _from_claims(raw: str, claims: dict[str, Any]) -> Token:
    kubernetes = _mapping(claims.get("kubernetes.io"))
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    pod = _mapping(kubernetes.get("pod"))
    return Token(
        raw=raw,
        issuer=_text(claims.get("iss")),
        subject=_text(claims.get("sub")),
        audiences=tuple(item for item in audiences if isinstance(item, str)),
        authorized_party=None if claims.get("azp") is None else _text(claims["azp"]) or "",
        issued_at=_number(claims.get("iat")),
        not_before=_number(claims.get("nbf")),
        expires_at=_number(claims.get("exp")),
        namespace=_text(kubernetes.get("namespace")),
        service_account=_text(_mapping(kubernetes.get("serviceaccount")).get("name")),
        pod=_text(pod.get("name")),
        pod_uid=_text(pod.get("uid")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    """JSON allows 1e400, which Python reads as infinity, and `true`, which is an int to it."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if is_number and isfinite(value) else None
    except OverflowError:
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
