"""Check the network path to STS step by step, in the configured region and in the fallback regions. Pure."""

import ipaddress
from typing import NamedTuple

from sidecar.doctor.finding import Check, Finding, failed, ok, warning
from sidecar.outbound import Failure, certificate_advice

SKEW_WARNING_SECONDS = 60.0
SKEW_FAILURE_SECONDS = 300.0
"""Clock skew above which the check fails. Most AWS services accept a signature time that is up to five minutes off."""

CONNECT_TIMEOUT_SECONDS = 3.0
"""
The daemon's timeout for a connection.

The check warns if a connection takes more than half of this timeout, because such a connection fails under load.
"""


class NetworkPath(NamedTuple):
    """
    The network path to one server, up to the first step that failed.

    The steps are `name`, `connect`, `proxy`, `tls` and `response`. `failed_step` is "" if all steps succeeded. `reason`
    is the error in words, and `failure` is the kind of error. `seconds` holds the duration of each step. `proxy` is the
    host and port, without the user. `authority` is the issuer of the server's certificate, which may be untrusted.
    `skew_seconds` is positive if the server's clock is ahead of ours, and None if the response had no Date.
    """

    url: str
    host: str
    failed_step: str = ""
    reason: str = ""
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
    The network path to the active STS, and the paths to the fallback regions.

    `exchange_succeeded` means that the path works, even if a step failed here.
    """

    first: NetworkPath
    others: tuple[NetworkPath, ...] = ()
    ca_bundle: str | None = None
    exchange_succeeded: bool = False

    def failure(self, observed: str, next_step: str) -> Finding:
        """Return a failure, or a warning if the exchange succeeded."""
        if self.exchange_succeeded:
            return warning(f"{observed}; the exchange succeeded nevertheless", next_step)
        return failed(observed, next_step)


STEPS = ("name", "connect", "proxy", "tls", "response")


def _name(facts: StsFacts) -> Finding:
    reach = facts.first
    host = reach.host if reach.proxy is None else f"the proxy {reach.proxy}"
    if reach.failed_step == "name":
        return facts.failure(
            f"{host} does not resolve here ({reach.reason})",
            "Check AWS_REGION and the Pod's DNS. In a VPC without internet access, add an interface endpoint for STS "
            "with private DNS"
            if reach.proxy is None
            else "Check HTTPS_PROXY",
        )
    private = [address for address in reach.addresses if _is_private(address)]
    kind = ", private: an interface endpoint in this VPC" if private and len(private) == len(reach.addresses) else ""
    return ok(f"{host} is {', '.join(reach.addresses)}{kind} ({reach.took('name')})")


def _connect(facts: StsFacts) -> Finding:
    reach = facts.first
    host = reach.host if reach.proxy is None else f"the proxy {reach.proxy}"
    if reach.failed_step == "connect":
        return facts.failure(
            f"no connection to {host} ({reach.reason})",
            _connect_fix(reach),
        )
    if dict(reach.seconds).get("connect", 0.0) > CONNECT_TIMEOUT_SECONDS / 2:
        return warning(f"{host} takes {reach.took('connect')} to connect", "Use STS in a nearer region")
    return ok(f"{host} connects ({reach.took('connect')})")


def _connect_fix(reach: NetworkPath) -> str:
    if reach.proxy is not None:
        return (
            "Check HTTPS_PROXY, and allow connections to the proxy. If STS can be reached directly, add it to NO_PROXY"
        )
    if "amazon" in reach.host or "api.aws" in reach.host:
        return (
            "Allow port 443 to STS in NetworkPolicies and security groups, also in those of the interface endpoint. If "
            "there is a proxy, set HTTPS_PROXY"
        )
    return "Check that STS listens there, and that AWS_ENDPOINT_URL_STS is its address"


def _proxy(facts: StsFacts) -> Finding | None:
    reach = facts.first
    if reach.proxy is None:
        return None
    if reach.failed_step == "proxy" and reach.failure in _CERTIFICATE_FAILURES:
        return facts.failure(
            f"the certificate of the proxy {reach.proxy} is not accepted: {reach.reason}",
            certificate_advice(reach.failure, facts.ca_bundle).replace("AWS_ENDPOINT_URL_STS", "HTTPS_PROXY"),
        )
    if reach.failed_step == "proxy":
        return facts.failure(
            f"the proxy {reach.proxy} does not allow connections to {reach.host} ({reach.reason})",
            f"Allow {reach.host} in the proxy. If STS can be reached directly, add it to NO_PROXY",
        )
    return ok(f"through the proxy {reach.proxy}, because NO_PROXY does not include {reach.host}")


def _tls(facts: StsFacts) -> Finding | None:
    reach = facts.first
    if not reach.url.startswith("https:"):
        return None
    signer = f", signed by {reach.authority}," if reach.authority else ""
    if reach.failed_step == "tls":
        return facts.failure(
            f"the certificate of {reach.host}{signer} is not accepted: {reach.reason.removesuffix('.')}",
            certificate_advice(reach.failure, facts.ca_bundle)
            if reach.failure in _CERTIFICATE_FAILURES
            else "Check that the server at that address speaks TLS, and that no firewall breaks the connection",
        )
    return ok(f"certificate of {reach.host}{signer} accepted ({reach.took('tls')})")


_CERTIFICATE_FAILURES = {Failure.UNKNOWN_AUTHORITY, Failure.WRONG_NAME, Failure.WRONG_DATE, Failure.CERTIFICATE}


def _response(facts: StsFacts) -> Finding:
    reach = facts.first
    if reach.failed_step == "response":
        return facts.failure(
            f"{reach.host} accepts the connection but does not respond ({reach.reason})",
            "Check which server has that address, and check AWS_ENDPOINT_URL_STS and HTTPS_PROXY",
        )
    return ok(f"responds ({reach.took('response')})")


def _clock(facts: StsFacts) -> Finding | None:
    skew = facts.first.skew_seconds
    if skew is None:
        return None
    difference = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} STS's"
    fix = "Set the clock of this node by NTP (chrony, systemd-timesyncd)"
    if abs(skew) > SKEW_FAILURE_SECONDS:
        return failed(f"this machine's clock is {difference}: AWS rejects signatures that are 5 minutes off", fix)
    if abs(skew) > SKEW_WARNING_SECONDS:
        return warning(f"this machine's clock is {difference}", fix)
    return ok("this machine's clock agrees with STS's")


def _fallback(facts: StsFacts) -> Finding | None:
    if not facts.others:
        return None
    unreachable = [f"{reach.host} ({reach.failed_step}: {reach.reason})" for reach in facts.others if reach.failed_step]
    if unreachable:
        return warning(
            f"a fallback region cannot be reached: {', '.join(unreachable)}",
            "Allow connections to it, or remove it from IRSA_SIDECAR_STS_FALLBACK_REGIONS",
        )
    return ok(f"reachable: {', '.join(reach.host for reach in facts.others)}")


def _is_private(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_private and not parsed.is_loopback


CHECKS: tuple[Check[StsFacts], ...] = (
    Check("name", "does the host name of STS, or of its proxy, resolve", _name),
    Check("connect", "does STS, or its proxy, accept connections", _connect, after=("name",)),
    Check("proxy", "does the proxy allow connections to STS", _proxy, after=("connect",)),
    Check("tls", "is the certificate of STS trusted here", _tls, after=("connect", "proxy")),
    Check("response", "does STS respond", _response, after=("connect", "proxy", "tls")),
    Check("clock", "does this machine's clock agree with the clock of STS", _clock, after=("response",)),
    Check("fallback", "can the fallback regions be reached", _fallback),
)
