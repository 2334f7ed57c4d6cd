"""Check that STS accepts the service account token, and that the kubelet renews it. Pure."""

import stat
from typing import NamedTuple

from sidecar.clock import instant_text
from sidecar.doctor.finding import Check, Finding, failed, ok, warning
from sidecar.errors import TokenError
from sidecar.role import Role
from sidecar.token import STS_TOLERANCE_SECONDS, Token

RENEWAL_FRACTION = 0.8
"""Fraction of a token's lifetime after which the kubelet requests a new token (pkg/kubelet/token/token_manager.go)."""

RENEWED_AFTER_SECONDS = 24 * 3600
"""Age at which the kubelet requests a new token in any case (also in token_manager.go)."""

RENEWAL_SECONDS = 5 * 60
"""Time that the kubelet may need for a renewal, with its loop, its back-off and the write."""

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""Signature algorithms that STS accepts (STS API reference, AssumeRoleWithWebIdentity, WebIdentityToken)."""

PROJECTED = "Use a projected volume: serviceAccountToken with audience sts.amazonaws.com, expirationSeconds 86400"


class FileFacts(NamedTuple):
    """
    The token's file. `uid` is doctor's user.

    `is_sub_path` is true if the file is mounted through a subPath, so that the kubelet's renewals do not reach it.
    """

    bytes: int
    mode: int
    owner: tuple[int, int]
    uid: int
    is_sub_path: bool = False


class TokenFacts(NamedTuple):
    """Either `token` or `error`. `kid` and `algorithm` are from the token's header. `now` is in Unix seconds."""

    role: Role
    now: float
    token: Token | None = None
    error: TokenError | None = None
    kid: str | None = None
    algorithm: str | None = None
    file: FileFacts | None = None


_NEXT_STEPS = {
    "missing": "Mount the projected volume in this container at the directory of that path, or correct the path",
    "empty": f"Check whether the program that writes the file has finished. {PROJECTED}",
    "malformed": f"Check which program writes that file: the kubelet writes only complete tokens. {PROJECTED}",
    "too_long": f"Check which program writes that file. {PROJECTED}",
    "not_a_file": "Mount the volume at a directory, and set the path of the file in it",
    "unreadable": "Set securityContext.fsGroup of the Pod, or the same runAsUser in all its containers",
}


def _file(facts: TokenFacts) -> Finding:
    if facts.error is not None:
        error = facts.error
        return failed(error.problem, error.fix if error.mistake else _NEXT_STEPS.get(error.reason, PROJECTED))
    file = facts.file
    if file is None:
        return ok(f"{facts.role.token_file} can be read")
    owner, group = file.owner
    mode = f"mode {stat.S_IMODE(file.mode):04o}, owner {owner}:{group}"
    return ok(f"{facts.role.token_file}, {file.bytes} bytes, {mode}, read by uid {file.uid}")


def _volume(facts: TokenFacts) -> Finding | None:
    if facts.file is None or not facts.file.is_sub_path:
        return None
    expires_at = _token(facts).expires_at
    expiration = "" if expires_at is None else f", and works until {instant_text(expires_at)}"
    return failed(
        f"{facts.role.token_file} is mounted by subPath: it is never renewed{expiration}",
        "Mount the whole volume at a directory, without subPath",
    )


def _times(facts: TokenFacts) -> Finding:
    token, now = _token(facts), facts.now
    if token.expires_at is None:
        return failed(
            "the token has no exp: it is a legacy Secret token that never expires, which STS rejects", PROJECTED
        )
    if now > token.expires_at + STS_TOLERANCE_SECONDS:
        return failed(
            f"the token expired at {instant_text(token.expires_at)}, {duration_text(now - token.expires_at)} ago, and "
            "was not renewed",
            "Check that the volume is mounted without subPath, that the kubelet runs, and that this machine's clock is "
            "right. A copy of a token is never renewed",
        )
    for event, at in (("issued", token.issued_at), ("valid from", token.not_before)):
        if at is not None and at > now + STS_TOLERANCE_SECONDS:
            return failed(
                f"the token is {event} {instant_text(at)}, {duration_text(at - now)} from now by this machine's clock",
                "Set the clocks of this node and of the API server by NTP: one of them is wrong",
            )
    return _renewal(token, token.expires_at, now)


def _renewal(token: Token, expires_at: float, now: float) -> Finding:
    validity = f"valid until {instant_text(expires_at)}"
    if now > expires_at:
        return warning(
            f"the token expired {duration_text(now - expires_at)} ago; STS tolerates {STS_TOLERANCE_SECONDS} s",
            "Check that the volume is mounted without subPath, and that the kubelet runs",
        )
    if token.issued_at is not None and token.pod is not None:
        due = min(RENEWAL_FRACTION * (expires_at - token.issued_at), RENEWED_AFTER_SECONDS)
        late = now - token.issued_at - due - RENEWAL_SECONDS
        if late > 0:
            return warning(
                f"the token, {validity}, should have been renewed {duration_text(late + RENEWAL_SECONDS)} ago",
                "Check that the volume is mounted without subPath, and that the kubelet runs",
            )
    return ok(f"{validity}, {duration_text(expires_at - now)} from now")


def _audience(facts: TokenFacts) -> Finding:
    token = _token(facts)
    if token.audience is None:
        return failed(token.audience_problem or "", _AUDIENCE_STEPS[token.audience_claim])
    if not token.audience.startswith("sts.amazonaws.com"):
        return warning(
            f"{token.audience_claim} is {token.audience}, not sts.amazonaws.com",
            f"Make sure that the IAM OIDC provider has this audience as a client ID, or {change_audience(token)}",
        )
    return ok(
        token.audience if token.audience_claim == "aud" else f"{token.audience} (azp, which STS uses instead of aud)"
    )


_AUDIENCE_STEPS = {
    "aud": "Request a token with one audience: a projected source has exactly one",
    "azp": "Configure the issuer to set azp to the client's ID, or to leave azp out",
}


def change_audience(token: Token, wanted: str = "") -> str:
    """Return the next step that changes the audience of later tokens. The text starts in lower case."""
    to = f" to {wanted}" if wanted else ""
    if token.audience_claim == "azp":
        return f"get the token as client {wanted}" if wanted else "get the token as another client"
    return f"set the volume's audience{to}"


def _subject(facts: TokenFacts) -> Finding:
    token = _token(facts)
    if token.subject is None:
        return failed("the token has no sub, which STS requires", PROJECTED)
    pod = f", Pod {token.pod}" if token.pod else ""
    return ok(f"{token.subject}{pod}")


def _signature(facts: TokenFacts) -> Finding:
    if facts.algorithm not in ALGORITHMS:
        return failed(f"the token's alg is {facts.algorithm}: STS accepts {', '.join(ALGORITHMS)}", PROJECTED)
    if not facts.kid:
        return failed("the token's header has no kid, which STS needs to find the issuer's key", PROJECTED)
    return ok(f"{facts.algorithm} with key {facts.kid}")


def _token(facts: TokenFacts) -> Token:
    assert facts.token is not None, "the checks after `file` have a token"
    return facts.token


def capitalised(step: str) -> str:
    return step[:1].upper() + step[1:]


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, such as `3 d 4 h`, `2 h 5 min` or `45 s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or unit == "s")


CHECKS: tuple[Check[TokenFacts], ...] = (
    Check("file", "is the token's file readable, and is it a complete JWT", _file),
    Check("volume", "is the whole volume mounted, so that the token is renewed", _volume, after=("file",)),
    Check("times", "is the token valid now, and renewed in time", _times, after=("file",)),
    Check("audience", "which audience does the token have", _audience, after=("file", "times")),
    Check("subject", "which service account is the token for", _subject, after=("file",)),
    Check(
        "signature", "is the token signed with an algorithm and a key id that STS accepts", _signature, after=("file",)
    ),
)
