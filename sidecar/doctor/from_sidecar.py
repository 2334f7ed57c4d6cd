"""
The sidecar's side: from its settings through token, issuer and STS to what it serves.

Looks that do not need one another run at once. Every look is guarded (guard.py): it has a deadline, and what it raises
becomes the reason why its checks could not be made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any

import trio

from sidecar.addresses import format_address
from sidecar.config.settings import PREFIX
from sidecar.doctor.checks import calls, endpoint, exchange, identity, issuer, metadata, settings, sts, token, trust
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.identity import IdentityFacts
from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.checks.sts import SKEW_WARNING_SECONDS, Reach, StsFacts
from sidecar.doctor.checks.token import TokenFacts
from sidecar.doctor.checks.trust import TrustFacts, objection
from sidecar.doctor.finding import Row
from sidecar.doctor.location import Side, is_in_pod, side
from sidecar.doctor.probes import endpoint as gather_endpoint
from sidecar.doctor.probes import exchange as gather_exchange
from sidecar.doctor.probes import identity as gather_identity
from sidecar.doctor.probes import issuer as gather_issuer
from sidecar.doctor.probes import metadata as gather_metadata
from sidecar.doctor.probes import reach as gather_reach
from sidecar.doctor.probes import settings as gather_settings
from sidecar.doctor.probes import token as gather_token
from sidecar.doctor.probes import trust as gather_trust
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.doctor.probes.exchange import Outcome
from sidecar.doctor.probes.guard import FILE_SECONDS, Looked, guarded, in_thread
from sidecar.doctor.probes.settings import Told
from sidecar.doctor.report import Report, rows
from sidecar.errors import TokenError
from sidecar.role import Role
from sidecar.sts.request import request_for

EXCHANGE_SECONDS = 300.0
"""The longest chain of roles is eleven calls, each with a deadline of its own."""

IAM_SECONDS = 60.0
"""Two rounds of three calls, each with botocore's own deadlines."""

AT_ONCE = 8
"""Roles that are looked at together."""

_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a table, not a bind


@dataclass(slots=True)
class _Looks:
    """What is found out of one role, while it is looked at."""

    role: Role
    token: TokenFacts
    outcome: Outcome | None = None
    issuer: IssuerFacts | None = None
    endpoint: EndpointFacts | None = None
    keys: Keys | None = field(default=None, repr=False)
    identity: IdentityFacts | None = None
    trust: TrustFacts | None = None
    whys: dict[str, str] = field(default_factory=dict)
    """Why there are no facts, by group."""

    def keep(self, group: str, looked: Looked[Any]) -> Any:
        """Return the facts, and remember why there are none."""
        if looked.facts is None:
            self.whys[group] = looked.why
        return looked.facts


async def examine(environ: Mapping[str, str], metadata_address: str | None) -> Report:
    """`metadata_address` is the node's metadata service, None not to ask it."""
    told = _told(environ, await guarded(in_thread(gather_settings.look, environ), FILE_SECONDS))
    looks = [_Looks(role, await _look_at_token(role)) for role in told.roles]
    ways: dict[str, Looked[Reach]] = {}
    leak = Looked[metadata.MetadataFacts](None, "not checked, because of --no-imds")
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for url in told.urls:
            nursery.start_soon(_reach, url, told, ways)
        for look in looks:
            nursery.start_soon(_look_at_role, environ, told, look, limiter)
        if metadata_address is not None:
            leak = await guarded(partial(gather_metadata.look, metadata_address))
    way = _ways(told, ways, looks)
    _set_to_stss_clock(looks, way)
    found = [
        *rows("settings", settings.CHECKS, told.facts),
        *_on_the_way_to_sts(looks),
        *(rows("sts", sts.CHECKS, way, _no_way(told, ways)) if told.facts.is_told else ()),
        *_from_sts_on(looks, is_out_of_reach=bool(way and way.first.failed)),
        *rows("metadata", metadata.CHECKS, *leak),
    ]
    return Report(side(environ), tuple(found), calls.table(told.roles))


def _told(environ: Mapping[str, str], looked: Looked[Told]) -> Told:
    """What the settings say. A look that failed is a problem of theirs: usually of a file that one of them names."""
    facts = SettingsFacts((), None, None, is_told=side(environ) is Side.SIDECAR, problems=(f"settings: {looked.why}",))
    return looked.facts or Told(facts, None, (), None)


async def _look_at_token(role: Role) -> TokenFacts:
    now = time()
    looked = await guarded(in_thread(gather_token.look, role, now), FILE_SECONDS)
    unreadable = TokenError("unreadable", f"{role.token_file}: {looked.why}", "Check the volume that is mounted there")
    return looked.facts or TokenFacts(role, now, error=unreadable)


async def _reach(url: str, told: Told, ways: dict[str, Looked[Reach]]) -> None:
    ways[url] = await guarded(partial(gather_reach.reach, url, told.sts.ca_bundle if told.sts else None))


async def _look_at_role(environ: Mapping[str, str], told: Told, look: _Looks, limiter: trio.CapacityLimiter) -> None:
    async with limiter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_at_endpoint, environ, told, look)
            nursery.start_soon(_look_at_issuer, told, look)
            nursery.start_soon(_exchange, told, look)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_at_identity, environ, look)
            nursery.start_soon(_look_at_trust, environ, look)


async def _look_at_endpoint(environ: Mapping[str, str], told: Told, look: _Looks) -> None:
    if told.config is None or told.config.listen[1] == 0:
        return
    host, port = told.config.listen
    where = Endpoint(
        setting=f"{PREFIX}LISTEN",
        url=f"http://{format_address(_REACHABLE.get(host, host), port)}{look.role.path}",
        secret_file=look.role.authorization_token_file,
        secret_text=None,
        is_expected=is_in_pod(environ) or bool(environ.get(f"{PREFIX}LISTEN")),
        role_arn=look.role.final_arn,
    )
    look.endpoint, look.keys = look.keep("endpoint", await guarded(partial(gather_endpoint.look, where))) or (
        None,
        None,
    )


async def _look_at_issuer(told: Told, look: _Looks) -> None:
    if look.token.token is None:
        return
    is_aws = told.sts is not None and told.sts.endpoint_url is None
    ca_bundle = told.sts.ca_bundle if told.sts else None
    ask = partial(gather_issuer.look, look.token, is_aws=is_aws, ca_bundle=ca_bundle)
    look.issuer = look.keep("issuer", await guarded(ask))


async def _exchange(told: Told, look: _Looks) -> None:
    if look.token.token is not None and told.sts is not None:
        trade = partial(gather_exchange.exchange, look.role, told.sts, look.token.token)
        look.outcome = look.keep("exchange", await guarded(trade, EXCHANGE_SECONDS))


async def _look_at_identity(environ: Mapping[str, str], look: _Looks) -> None:
    """As whom the application comes, if the daemon serves anything; else as whom it would."""
    served, source = look.keys, "that the endpoint serves"
    if served is None:
        served, source = _exchanged(look), "of the exchange"
    ask = partial(gather_identity.look, environ, served, source, look.role.final_arn)
    look.identity = look.keep("identity", await guarded(ask))


async def _look_at_trust(environ: Mapping[str, str], look: _Looks) -> None:
    token = look.token.token
    if token is None:
        return
    facts = TrustFacts(look.role, token, request_for(look.role, token, 3600).session_name)
    facts = facts._replace(granted=_exchanged(look) is not None)
    ask = partial(gather_trust.look, environ, facts, None if look.role.chain else _exchanged(look))
    look.trust = look.keep("trust", await guarded(ask, IAM_SECONDS))


def _exchanged(look: _Looks) -> Keys | None:
    given = look.outcome.credentials if look.outcome else None
    return Keys(given.access_key_id, given.secret_access_key, given.session_token) if given else None


# From what was found to findings

_NO_STS = "the settings do not say where STS is"
_NO_PORT = "the settings do not say where the daemon listens (port 0 is any free one)"
_NO_TOKEN = "there is no token that can be read"  # noqa: S105  a sentence


def _no_way(told: Told, ways: Mapping[str, Looked[Reach]]) -> str:
    return ways[told.urls[0]].why if told.urls else _NO_STS


def _ways(told: Told, ways: Mapping[str, Looked[Reach]], looks: list[_Looks]) -> StsFacts | None:
    found = [ways[url].facts for url in told.urls]
    if not found or found[0] is None:
        return None
    first, others = found[0], [way for way in found[1:] if way is not None]
    granted = any(_exchanged(look) for look in looks)
    return StsFacts(first, tuple(others), told.sts.ca_bundle if told.sts else None, granted)


def _set_to_stss_clock(looks: list[_Looks], way: StsFacts | None) -> None:
    """STS judges a token by its own clock. Where ours is off, the token must not be blamed for it."""
    skew = way.first.skew_seconds if way else None
    if skew is not None and abs(skew) > SKEW_WARNING_SECONDS:
        for look in looks:
            look.token = look.token._replace(now=look.token.now + skew)


def _on_the_way_to_sts(looks: list[_Looks]) -> Iterator[Row]:
    for look in looks:
        name = _name(look, looks)
        yield from rows("token", token.CHECKS, look.token, role=name)
        yield from rows("issuer", issuer.CHECKS, _issuer(look), look.whys.get("issuer", _NO_TOKEN), role=name)


def _from_sts_on(looks: list[_Looks], *, is_out_of_reach: bool) -> Iterator[Row]:
    for look in looks:
        name = _name(look, looks)
        no_exchange = look.whys.get("exchange") or (_NO_TOKEN if look.token.token is None else _NO_STS)
        exchanged = _exchange_facts(look, is_out_of_reach=is_out_of_reach)
        yield from rows("exchange", exchange.CHECKS, exchanged, no_exchange, role=name)
        yield from rows("trust", trust.CHECKS, look.trust, look.whys.get("trust", _NO_TOKEN), role=name)
        yield from rows("endpoint", endpoint.CHECKS, look.endpoint, look.whys.get("endpoint", _NO_PORT), role=name)
        yield from rows("identity", identity.CHECKS, look.identity, look.whys.get("identity", ""), role=name)


def _name(look: _Looks, looks: list[_Looks]) -> str | None:
    return look.role.name if len(looks) > 1 else None


def _issuer(look: _Looks) -> IssuerFacts | None:
    """With what STS's answer says of the issuer."""
    if look.issuer is None or look.outcome is None:
        return look.issuer
    error = look.outcome.error
    words = ("IDPCommunicationError", "verification key")
    complains = error is not None and any(word in f"{error.code} {error.message}" for word in words)
    return look.issuer._replace(granted=error is None, complains_of_keys=complains)


def _exchange_facts(look: _Looks, *, is_out_of_reach: bool) -> exchange.ExchangeFacts | None:
    outcome, token = look.outcome, look.token.token
    if outcome is None or token is None:
        return None
    given, published = outcome.credentials, look.issuer.published if look.issuer else None
    return exchange.ExchangeFacts(
        role=look.role,
        token=token,
        kid=look.token.kid,
        asked_seconds=outcome.asked_seconds,
        sts_host=outcome.sts_host,
        granted=exchange.Granted(given.access_key_id, given.expires_at, outcome.seconds) if given else None,
        error=outcome.error,
        kids=tuple(str(key.get("kid")) for key in published.keys) if published else None,
        client_ids=look.trust.client_ids if look.trust else None,
        objection=objection(look.trust) if look.trust else None,
        is_out_of_reach=is_out_of_reach,
    )
