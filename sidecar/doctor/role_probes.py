"""
Collect the facts about one role: token, issuer, exchange, endpoint, caller and trust policy.

Every probe has a guard (guard.py). Probes that do not depend on each other run concurrently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any

import trio

from sidecar.addresses import format_address
from sidecar.config.settings import PREFIX
from sidecar.credentials import Credentials
from sidecar.doctor.checks.caller import CallerFacts
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.token import TokenFacts
from sidecar.doctor.checks.trust import TrustFacts
from sidecar.doctor.location import is_in_pod
from sidecar.doctor.probes import caller as caller_probe
from sidecar.doctor.probes import endpoint as endpoint_probe
from sidecar.doctor.probes import exchange as exchange_probe
from sidecar.doctor.probes import issuer as issuer_probe
from sidecar.doctor.probes import token as token_probe
from sidecar.doctor.probes import trust as trust_probe
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.doctor.probes.exchange import Outcome
from sidecar.doctor.probes.guard import FILE_SECONDS, ProbeResult, guarded, in_thread
from sidecar.doctor.probes.settings import SettingsResult
from sidecar.errors import TokenError
from sidecar.role import Role
from sidecar.sts.request import request_for

EXCHANGE_SECONDS = 300.0
"""Deadline for an exchange. The longest chain needs eleven calls to STS, each with its own deadline."""

IAM_SECONDS = 60.0
"""Deadline for IAM: at most two rounds of at most three calls. Each call also has botocore's own deadlines."""

_CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a table, not a bind
"""The address to connect to, for each listening address that means all interfaces."""


@dataclass(slots=True)
class RoleFacts:
    """The facts about one role, by group. The probes fill them in."""

    role: Role
    token: TokenFacts
    outcome: Outcome | None = None
    issuer: IssuerFacts | None = None
    endpoint: EndpointFacts | None = None
    keys: Keys | None = field(default=None, repr=False)
    caller: CallerFacts | None = None
    trust: TrustFacts | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    """The reason why facts are missing, by group."""

    @property
    def credentials(self) -> Credentials | None:
        """The credentials from the exchange, or None."""
        return self.outcome.credentials if self.outcome else None

    def keep(self, group: str, result: ProbeResult[Any]) -> Any:
        """Return the probe's facts, or None. If there are none, store the reason under the group's name."""
        if result.facts is None:
            self.reasons[group] = result.reason
        return result.facts


async def collect_token(role: Role) -> RoleFacts:
    """Collect the facts about the role's token, and leave the other groups empty."""
    now = time()
    result = await guarded(in_thread(token_probe.collect, role, now), FILE_SECONDS)
    unreadable = TokenError(
        "unreadable", f"{role.token_file}: {result.reason}", "Check the volume that is mounted there"
    )
    return RoleFacts(role, result.facts or TokenFacts(role, now, error=unreadable))


async def collect_rest(
    environ: Mapping[str, str], settings: SettingsResult, facts: RoleFacts, limiter: trio.CapacityLimiter
) -> None:
    """Collect all groups of `facts` except the token."""
    async with limiter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect_endpoint, environ, settings, facts)
            nursery.start_soon(_collect_issuer, settings, facts)
            nursery.start_soon(_exchange, settings, facts)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect_caller, environ, facts)
            nursery.start_soon(_collect_trust, environ, facts)


async def _collect_endpoint(environ: Mapping[str, str], settings: SettingsResult, facts: RoleFacts) -> None:
    if settings.config is None or settings.config.listen[1] == 0:
        return
    host, port = settings.config.listen
    endpoint = Endpoint(
        setting=f"{PREFIX}LISTEN",
        url=f"http://{format_address(_CONNECTABLE.get(host, host), port)}{facts.role.path}",
        secret_file=facts.role.authorization_token_file,
        secret_text=None,
        is_expected=is_in_pod(environ) or bool(environ.get(f"{PREFIX}LISTEN")),
        role_arn=facts.role.final_arn,
    )
    result = await guarded(partial(endpoint_probe.collect, endpoint))
    facts.endpoint, facts.keys = facts.keep("endpoint", result) or (None, None)


async def _collect_issuer(settings: SettingsResult, facts: RoleFacts) -> None:
    if facts.token.token is None:
        return
    is_aws = settings.sts is not None and settings.sts.endpoint_url is None
    ca_bundle = settings.sts.ca_bundle if settings.sts else None
    probe = partial(issuer_probe.collect, facts.token, is_aws=is_aws, ca_bundle=ca_bundle)
    facts.issuer = facts.keep("issuer", await guarded(probe))


async def _exchange(settings: SettingsResult, facts: RoleFacts) -> None:
    if facts.token.token is not None and settings.sts is not None:
        probe = partial(exchange_probe.exchange, facts.role, settings.sts, facts.token.token)
        facts.outcome = facts.keep("exchange", await guarded(probe, EXCHANGE_SECONDS))


async def _collect_caller(environ: Mapping[str, str], facts: RoleFacts) -> None:
    """Call AWS with the credentials that the daemon serves, or else with the credentials from the exchange."""
    keys, source = facts.keys, "that the endpoint serves"
    if keys is None:
        keys, source = _exchanged_keys(facts), "of the exchange"
    probe = partial(caller_probe.collect, environ, keys, source, facts.role.final_arn)
    facts.caller = facts.keep("identity", await guarded(probe))


async def _collect_trust(environ: Mapping[str, str], facts: RoleFacts) -> None:
    token = facts.token.token
    if token is None:
        return
    known = TrustFacts(
        role=facts.role,
        token=token,
        session_name=request_for(facts.role, token, 3600).session_name,
        exchange_succeeded=facts.credentials is not None,
    )
    probe = partial(trust_probe.collect, environ, known, None if facts.role.chain else _exchanged_keys(facts))
    facts.trust = facts.keep("trust", await guarded(probe, IAM_SECONDS))


def _exchanged_keys(facts: RoleFacts) -> Keys | None:
    credentials = facts.credentials
    if credentials is None:
        return None
    return Keys(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
