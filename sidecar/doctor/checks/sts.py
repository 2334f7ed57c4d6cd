"""Whether STS can be reached from here, step by step, in its own region and in those to turn to. Pure."""

import ipaddress
from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, ok, warning, wrong
from sidecar.outbound import Failure, certificate_advice

SKEW_WARNING_SECONDS = 60.0
SKEW_WRONG_SECONDS = 300.0
"""Most of AWS takes a signature that is up to five minutes off."""

ENOUGH_SECONDS = 3.0
"""What the daemon gives a connection; a step that took half of it will fail under load."""


class Reach(NamedTuple):
    """
    One way to a server, as far as it went. `failed` is the step that did not work, "" when all did, `why` the reason in
    words, and `failure` its kind.

    The steps are `name`, `connect`, `proxy`, `tls` and `answer`. `seconds` is what each took. `proxy` is its host and
    port, without any user. `authority` is who signed the certificate that was shown, trusted or not. `skew_seconds` is
    how far the server's clock is ahead of ours, None where it did not say.
    """

    url: str
    host: str
    failed: str = ""
    why: str = ""
    proxy: str | None = None
    addresses: tuple[str, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    authority: str | None = None
    skew_seconds: float | None = None
    failure: Failure | None = None

    def took(self, step: str) -> str:
        return f"{1000 * dict(self.seconds).get(step, 0.0):.0f} ms"


class StsFacts(NamedTuple):
    """
    `first` is the STS in use, `others` those of the fallback regions.

    `granted` is whether an exchange went through: then whatever looked closed was open after all.
    """

    first: Reach
    others: tuple[Reach, ...] = ()
    ca_bundle: str | None = None
    granted: bool = False

    def closed(self, seen: str, next_step: str) -> Finding:
        if self.granted:
            return warning(f"{seen}; the exchange went through all the same", next_step)
        return wrong(seen, next_step)


STEPS = ("name", "connect", "proxy", "tls", "answer")


def _name(facts: StsFacts) -> Finding:
    reach = facts.first
    asked = reach.host if reach.proxy is None else f"the proxy {reach.proxy}"
    if reach.failed == "name":
        return facts.closed(
            f"{asked} does not resolve here ({reach.why})",
            "Check AWS_REGION and the Pod's DNS; in a VPC without internet add an interface endpoint for STS, with "
            "private DNS"
            if reach.proxy is None
            else "Check HTTPS_PROXY",
        )
    private = [address for address in reach.addresses if _is_private(address)]
    kind = ", private: an interface endpoint in this VPC" if private and len(private) == len(reach.addresses) else ""
    return ok(f"{asked} is {', '.join(reach.addresses)}{kind} ({reach.took('name')})")


def _connect(facts: StsFacts) -> Finding:
    reach = facts.first
    where = reach.host if reach.proxy is None else f"the proxy {reach.proxy}"
    if reach.failed == "connect":
        return facts.closed(
            f"no connection to {where} ({reach.why})",
            _way_in(reach),
        )
    if dict(reach.seconds).get("connect", 0.0) > ENOUGH_SECONDS / 2:
        return warning(f"{where} takes {reach.took('connect')} to connect", "Use the STS of a nearer region")
    return ok(f"{where} connects ({reach.took('connect')})")


def _way_in(reach: Reach) -> str:
    if reach.proxy is not None:
        return "Check HTTPS_PROXY, and open the way to it; or put STS into NO_PROXY where it can be reached directly"
    if "amazon" in reach.host or "api.aws" in reach.host:
        return (
            "Open port 443 to STS in security groups, NetworkPolicies and those of the interface endpoint; or, where "
            "there is a proxy, set HTTPS_PROXY"
        )
    return "See whether STS listens there, and whether AWS_ENDPOINT_URL_STS names it"


def _proxy(facts: StsFacts) -> Finding | None:
    reach = facts.first
    if reach.proxy is None:
        return None
    if reach.failed == "proxy" and reach.failure in _OF_THE_CERTIFICATE:
        return facts.closed(
            f"the certificate of the proxy {reach.proxy} is not accepted: {reach.why}",
            certificate_advice(reach.failure, facts.ca_bundle).replace("AWS_ENDPOINT_URL_STS", "HTTPS_PROXY"),
        )
    if reach.failed == "proxy":
        return facts.closed(
            f"the proxy {reach.proxy} does not let us through to {reach.host} ({reach.why})",
            f"Allow {reach.host} there, or, where STS can be reached directly, put it into NO_PROXY",
        )
    return ok(f"through the proxy {reach.proxy}, as NO_PROXY does not have {reach.host}")


def _tls(facts: StsFacts) -> Finding | None:
    reach = facts.first
    if not reach.url.startswith("https:"):
        return None
    signer = f", signed by {reach.authority}," if reach.authority else ""
    if reach.failed == "tls":
        return facts.closed(
            f"the certificate of {reach.host}{signer} is not accepted: {reach.why.removesuffix('.')}",
            certificate_advice(reach.failure, facts.ca_bundle)
            if reach.failure in _OF_THE_CERTIFICATE
            else "Check that the server at that address speaks TLS, and that no proxy or firewall cuts it off",
        )
    return ok(f"certificate of {reach.host}{signer} accepted ({reach.took('tls')})")


_OF_THE_CERTIFICATE = {Failure.UNKNOWN_AUTHORITY, Failure.WRONG_NAME, Failure.WRONG_DATE, Failure.CERTIFICATE}


def _answer(facts: StsFacts) -> Finding:
    reach = facts.first
    if reach.failed == "answer":
        return facts.closed(
            f"{reach.host} takes the connection and gives no answer ({reach.why})",
            "See what stands at that address: check AWS_ENDPOINT_URL_STS and HTTPS_PROXY",
        )
    return ok(f"answers ({reach.took('answer')})")


def _clock(facts: StsFacts) -> Finding | None:
    skew = facts.first.skew_seconds
    if skew is None:
        return None
    side = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} STS's"
    fix = "Let NTP (chrony, systemd-timesyncd) set the clock of this node"
    if abs(skew) > SKEW_WRONG_SECONDS:
        return wrong(f"this machine's clock is {side}: AWS refuses signatures that are 5 minutes off", fix)
    if abs(skew) > SKEW_WARNING_SECONDS:
        return warning(f"this machine's clock is {side}", fix)
    return ok("this machine's clock agrees with STS's")


def _others(facts: StsFacts) -> Finding | None:
    if not facts.others:
        return None
    out = [f"{reach.host} ({reach.failed}: {reach.why})" for reach in facts.others if reach.failed]
    if out:
        return warning(
            f"a region to turn to cannot be reached: {', '.join(out)}",
            "Open the way to it, or take it out of IRSA_SIDECAR_STS_FALLBACK_REGIONS: it is of no use as it is",
        )
    return ok(f"can be reached too: {', '.join(reach.host for reach in facts.others)}")


def _is_private(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_private and not parsed.is_loopback


CHECKS: tuple[Check[StsFacts], ...] = (
    Check("name", "does its name, or the proxy's, resolve", _name),
    Check("connect", "can it be reached", _connect, after=("name",)),
    Check("proxy", "does the proxy allow connections to it", _proxy, after=("connect",)),
    Check("tls", "is its certificate trusted here", _tls, after=("connect", "proxy")),
    Check("answer", "does it answer", _answer, after=("connect", "proxy", "tls")),
    Check("clock", "does this machine's clock agree with it", _clock, after=("answer",)),
    Check("fallback", "can the fallback regions be reached", _others),
)
