"""
Read the projected service account token and its claims.

Rules. The token is read again right before every exchange and is not stored. Its signature is not verified here,
because STS does that. The claims are used for names, warnings and metrics, and never prevent an exchange.
"""

import os
import re
import stat
from math import isfinite
from typing import Any, NamedTuple

import jwt

from sidecar.clock import instant_text
from sidecar.errors import TokenError
from sidecar.files import read_regular_file

MAX_TOKEN_BYTES = 20_000
"""The longest WebIdentityToken that STS accepts (AWS STS API reference, AssumeRoleWithWebIdentity)."""

STS_TOLERANCE_SECONDS = 300
"""The clock skew that STS tolerates in a token's times (from recorded responses of the real service)."""

_COMPACT_JWS = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""A pattern for a token (RFC 7515, 3.1). Python's base64 and PyJWT (at least up to 2.10) ignore other bytes."""


class Token(NamedTuple):
    """A token and its claims. Instants are Unix seconds. A missing or mistyped claim is None or empty."""

    raw: str
    issuer: str | None
    subject: str | None
    audiences: tuple[str, ...]
    authorized_party: str | None
    """The claim `azp`; None if it is absent, and "" if it is empty or not a string."""
    issued_at: float | None
    not_before: float | None
    expires_at: float | None
    namespace: str | None
    service_account: str | None
    pod: str | None
    pod_uid: str | None

    def __repr__(self) -> str:
        claims = {name: value for name, value in self._asdict().items() if name != "raw"}
        return f"Token({claims})"

    @property
    def audience_claim(self) -> str:
        """Return the name of the claim that STS compares with the client IDs of the IAM OIDC provider."""
        return "aud" if self.authorized_party is None else "azp"

    @property
    def audience(self) -> str | None:
        """
        Return the value that STS compares with the client IDs: `azp` if the token has one, else its only `aud`.

        Return None if STS rejects the token because of its audience. (IAM User Guide, "Available keys for AWS OIDC
        federation": `aud`.)
        """
        if self.audience_problem is not None:
            return None
        return self.audiences[0] if self.authorized_party is None else self.authorized_party

    @property
    def audience_problem(self) -> str | None:
        """Return the reason, as a clause, why the token has no audience for STS. None if the token has an audience."""
        if not self.audiences:
            return "the token has no aud, which STS requires"
        if self.authorized_party == "":
            return "the token's azp is empty or is not a string, so it equals no client ID of a provider"
        if self.authorized_party is None and len(self.audiences) > 1:
            return f"the token has several audiences ({', '.join(self.audiences)}) and no azp, so STS cannot choose one"
        return None


def read_token(path: str) -> Token:
    """
    Read and decode the token at `path`.

    Raises TokenError if the file has no valid token, or cannot be read.

    The kubelet swaps the `..data` symlink in the path. So a read returns the whole old or the whole new token. For a
    moment neither may exist, so a missing file is read a second time.
    """
    try:
        content = _read_bounded(path)
    except FileNotFoundError:
        content = _read_or_explain(path)
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return decode_token(content, path)


def decode_token(content: bytes, path: str) -> Token:
    """
    Parse the content of a token file.

    Raises TokenError if it is empty, too long or not a JWT.
    """
    raw = content.removeprefix(b"\xef\xbb\xbf").strip()
    if not raw:
        raise TokenError("empty", f"{path} is empty", "Check whether the program that writes the token has finished")
    if len(content) > MAX_TOKEN_BYTES or _COMPACT_JWS.fullmatch(raw) is None:
        raise _no_token(path, content)
    try:
        claims = jwt.decode(raw, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError) as exc:  # old PyJWTs raise RecursionError for deeply nested claims
        raise TokenError("malformed", f"{path} holds no JWT: {exc}", _SEE_THE_WRITER) from exc
    return _from_claims(raw.decode("ascii"), claims)


def warning_from_claims(token: Token, now: float) -> str | None:
    """
    Return a warning if STS will probably reject this token, else None.

    `now` is Unix seconds, on STS's clock if its skew is known. STS tolerates 300 s in either direction.
    """
    if token.expires_at is None:
        return "the token never expires: a legacy Secret token, not a projected one, which STS rejects"
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
            f"the token's audience ({token.audience_claim}) is {token.audience}, not sts.amazonaws.com: it must be "
            "an audience that the IAM OIDC provider accepts"
        )
    return None


def expired_at_start_warning(token: Token, now: float) -> str | None:
    """Return a warning if the token had expired when the daemon first read it, else None. `now` is Unix seconds."""
    if token.expires_at is None or now < token.expires_at:
        return None
    return (
        f"the token expired at {instant_text(token.expires_at)}, before the daemon started. STS rejects an expired "
        "token. Check the program that renews the file: the kubelet, or the job that wrote it"
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


_SEE_THE_WRITER = "Check the program that writes the file"


def _no_token(path: str, content: bytes) -> TokenError:
    """Return the error for content that is too long or is not a signed JWT."""
    from sidecar.token_mistake import find_mistake  # noqa: PLC0415  only files without a token need it

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
    """Return the error for a file that this user may not read. It shows the user and the mode of the file."""
    try:
        status = os.stat(path)
        seen = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"
    except OSError:
        seen = "its directory may not be searched either"
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
    """Return a finite number, else None. Python parses 1e400 as infinity, and `true` is an int."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if is_number and isfinite(value) else None
    except OverflowError:
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
