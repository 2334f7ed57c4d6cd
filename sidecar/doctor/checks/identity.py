"""Who AWS says we are, with the credentials that an application gets. Pure."""

from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, left_out, ok, wrong


class IdentityFacts(NamedTuple):
    """
    `arn` is what GetCallerIdentity says; else `code` and `error` are why it says no, `error` alone why it said nothing,
    or `left_out` why it was not asked. `source` is where the credentials came from, `role_arn` whose they must be, if
    that is known.
    """

    source: str
    role_arn: str | None
    arn: str | None = None
    code: str = ""
    error: str = ""
    left_out: str = ""
    how: str = ""


_BY_CODE = {
    "SignatureDoesNotMatch": "See this machine's clock, and whether a proxy changes requests on their way",
    "RequestExpired": "Let NTP set this machine's clock",
    "ExpiredToken": "See this machine's clock: the credentials that it takes for alive have ended",
    "InvalidClientTokenId": "Ask the STS of the role's own partition; a region that is not enabled by default takes "
    "tokens of regional STS endpoints only",
}


def _known(facts: IdentityFacts) -> Finding:
    if facts.left_out:
        return left_out(facts.left_out, facts.how)
    if facts.arn is None and not facts.code:
        return left_out(f"STS could not be asked who the credentials {facts.source} are: {facts.error}")
    if facts.arn is None:
        return wrong(
            f"AWS does not take the credentials {facts.source}: {facts.code}: {facts.error}".removesuffix("."),
            _BY_CODE.get(facts.code, "See the way to STS above: signed requests go there too"),
        )
    wanted = (facts.role_arn or "").rpartition("/")[2]
    given = facts.arn.split("/")
    if wanted and (len(given) < 2 or given[1] != wanted):
        return wrong(f"AWS says {facts.arn}, which is not {facts.role_arn}", "See which process serves the credentials")
    return ok(f"{facts.arn} (credentials {facts.source})")


CHECKS: tuple[Check[IdentityFacts], ...] = (Check("caller", "which identity does AWS report", _known),)
