"""Check that AWS recognizes the served credentials as the role's credentials. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, failed, ok, skipped


class CallerFacts(NamedTuple):
    """
    The response to GetCallerIdentity: `arn`, or `code` and `error` if AWS rejected the call.

    `error` without `code` means that AWS sent no response. `skipped` is the reason if AWS was not called, and `fix` is
    the next step. `source` describes the origin of the credentials. `role_arn` is the expected role, if known.
    """

    source: str
    role_arn: str | None
    arn: str | None = None
    code: str = ""
    error: str = ""
    skipped: str = ""
    fix: str = ""


_BY_CODE = {
    "SignatureDoesNotMatch": "Check this machine's clock, and whether a proxy changes requests",
    "RequestExpired": "Set this machine's clock by NTP",
    "ExpiredToken": "Check this machine's clock. According to this clock, the credentials are still valid",
    "InvalidClientTokenId": "Use the STS of the role's partition. A region that is not enabled by default accepts only "
    "session tokens of regional STS endpoints",
}


def _caller(facts: CallerFacts) -> Finding:
    if facts.skipped:
        return skipped(facts.skipped, facts.fix)
    if facts.arn is None and not facts.code:
        return skipped(f"GetCallerIdentity with the credentials {facts.source} failed: {facts.error}")
    if facts.arn is None:
        return failed(
            f"AWS rejects the credentials {facts.source}: {facts.code}: {facts.error}".removesuffix("."),
            _BY_CODE.get(facts.code, "Check the network path to STS above. Signed requests also use that path"),
        )
    expected = (facts.role_arn or "").rpartition("/")[2]
    parts = facts.arn.split("/")
    if expected and (len(parts) < 2 or parts[1] != expected):
        return failed(f"the caller is {facts.arn}, not {facts.role_arn}", "Check which process serves the credentials")
    return ok(f"{facts.arn} (credentials {facts.source})")


CHECKS: tuple[Check[CallerFacts], ...] = (Check("caller", "which identity does AWS report", _caller),)
