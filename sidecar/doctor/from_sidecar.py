"""Examine the sidecar's container: settings, token, issuer, STS, exchange, trust policy and endpoint of each role."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import trio

from sidecar.doctor.checks import caller, calls, endpoint, exchange, issuer, metadata, settings, sts, token, trust
from sidecar.doctor.checks.issuer import IssuerFacts
from sidecar.doctor.checks.settings import SettingsFacts
from sidecar.doctor.checks.sts import SKEW_WARNING_SECONDS, NetworkPath, StsFacts
from sidecar.doctor.checks.trust import policy_mismatch
from sidecar.doctor.finding import Row
from sidecar.doctor.location import Side, side
from sidecar.doctor.probes import metadata as metadata_probe
from sidecar.doctor.probes import network_path as network_path_probe
from sidecar.doctor.probes import settings as settings_probe
from sidecar.doctor.probes.guard import FILE_SECONDS, ProbeResult, guarded, in_thread
from sidecar.doctor.probes.settings import SettingsResult
from sidecar.doctor.report import Report, rows
from sidecar.doctor.role_probes import RoleFacts, collect_rest, collect_token
from sidecar.errors import Explanation

MAX_CONCURRENT_ROLES = 8
"""Maximum number of roles that are probed at the same time."""

_NO_STS = "the settings define no usable STS"
_NO_PORT = "the settings define no fixed port for the daemon (port 0 is any free port)"
_NO_TOKEN = "the token cannot be read"  # noqa: S105  a sentence

_Paths = dict[str, ProbeResult[NetworkPath]]


async def examine(environ: Mapping[str, str], metadata_address: str | None) -> Report:
    """
    Run the checks for the sidecar's environment.

    `metadata_address` is the URL of the node's metadata service, or None to skip that check.
    """
    found = _usable(environ, await guarded(in_thread(settings_probe.collect, environ), FILE_SECONDS))
    roles = [await collect_token(role) for role in found.roles]
    paths: _Paths = {}
    imds = ProbeResult[metadata.MetadataFacts](None, "not checked because of --no-imds")
    limiter = trio.CapacityLimiter(MAX_CONCURRENT_ROLES)
    async with trio.open_nursery() as nursery:
        for url in found.urls:
            nursery.start_soon(_collect_path, url, found, paths)
        for facts in roles:
            nursery.start_soon(collect_rest, environ, found, facts, limiter)
        if metadata_address is not None:
            imds = await guarded(partial(metadata_probe.collect, metadata_address))
    all_rows = (*_rows(found, paths, roles), *rows("metadata", metadata.CHECKS, *imds))
    return Report(side(environ), all_rows, calls.by_duration(found.roles), _token_lifetimes(roles))


def _token_lifetimes(roles: Sequence[RoleFacts]) -> dict[str, float]:
    """Return the seconds from issue to expiration of each token that has both times, by its file."""
    tokens = [(facts.role.token_file, facts.token.token) for facts in roles]
    return {
        path: token.expires_at - token.issued_at
        for path, token in tokens
        if token is not None and token.expires_at is not None and token.issued_at is not None
    }


def _usable(environ: Mapping[str, str], result: ProbeResult[SettingsResult]) -> SettingsResult:
    """
    Return the settings. A failed probe counts as a problem with the settings.

    The usual cause is a setting that names an unreadable file.
    """
    problems = (Explanation(f"settings: {result.reason}"),)
    facts = SettingsFacts((), None, None, names_role=side(environ) is Side.SIDECAR, problems=problems)
    return result.facts or SettingsResult(facts, None, (), None)


async def _collect_path(url: str, found: SettingsResult, paths: _Paths) -> None:
    ca_bundle = found.sts.ca_bundle if found.sts else None
    paths[url] = await guarded(partial(network_path_probe.collect, url, ca_bundle))


# From facts to findings


def _rows(found: SettingsResult, paths: _Paths, roles: Sequence[RoleFacts]) -> Iterator[Row]:
    sts_facts = _sts_facts(found, paths, roles)
    _use_sts_clock(roles, sts_facts)
    yield from rows("settings", settings.CHECKS, found.facts)
    yield from _rows_before_sts(roles)
    if found.facts.names_role:
        yield from rows("sts", sts.CHECKS, sts_facts, paths[found.urls[0]].reason if found.urls else _NO_STS)
    yield from _rows_after_sts(roles, is_unreachable=bool(sts_facts and sts_facts.first.failed_step))


def _sts_facts(found: SettingsResult, paths: _Paths, roles: Sequence[RoleFacts]) -> StsFacts | None:
    probed = [paths[url].facts for url in found.urls]
    if not probed or probed[0] is None:
        return None
    others = tuple(path for path in probed[1:] if path is not None)
    exchange_succeeded = any(facts.credentials for facts in roles)
    return StsFacts(probed[0], others, found.sts.ca_bundle if found.sts else None, exchange_succeeded)


def _use_sts_clock(roles: Sequence[RoleFacts], sts_facts: StsFacts | None) -> None:
    """If STS's clock differs by more than SKEW_WARNING_SECONDS, check the tokens at the time of STS's clock."""
    skew = sts_facts.first.skew_seconds if sts_facts else None
    if skew is not None and abs(skew) > SKEW_WARNING_SECONDS:
        for facts in roles:
            facts.token = facts.token._replace(now=facts.token.now + skew)


def _rows_before_sts(roles: Sequence[RoleFacts]) -> Iterator[Row]:
    for facts in roles:
        name = _name(facts, roles)
        yield from rows("token", token.CHECKS, facts.token, role=name)
        yield from rows("issuer", issuer.CHECKS, _issuer(facts), facts.reasons.get("issuer", _NO_TOKEN), role=name)


def _rows_after_sts(roles: Sequence[RoleFacts], *, is_unreachable: bool) -> Iterator[Row]:
    for facts in roles:
        name, reasons = _name(facts, roles), facts.reasons
        no_exchange = reasons.get("exchange") or (_NO_TOKEN if facts.token.token is None else _NO_STS)
        exchanged = _exchange_facts(facts, is_unreachable=is_unreachable)
        yield from rows("exchange", exchange.CHECKS, exchanged, no_exchange, role=name)
        yield from rows("trust", trust.CHECKS, facts.trust, reasons.get("trust", _NO_TOKEN), role=name)
        yield from rows("endpoint", endpoint.CHECKS, facts.endpoint, reasons.get("endpoint", _NO_PORT), role=name)
        yield from rows("identity", caller.CHECKS, facts.caller, reasons.get("identity", ""), role=name)


def _name(facts: RoleFacts, roles: Sequence[RoleFacts]) -> str | None:
    return facts.role.name if len(roles) > 1 else None


def _issuer(facts: RoleFacts) -> IssuerFacts | None:
    """Return the facts about the issuer, or None. If there was an exchange, add what the response of STS shows."""
    if facts.issuer is None or facts.outcome is None:
        return facts.issuer
    error = facts.outcome.error
    words = ("IDPCommunicationError", "verification key")
    is_about_keys = error is not None and any(word in f"{error.code} {error.message}" for word in words)
    return facts.issuer._replace(exchange_succeeded=error is None, sts_cannot_get_keys=is_about_keys)


def _exchange_facts(facts: RoleFacts, *, is_unreachable: bool) -> exchange.ExchangeFacts | None:
    outcome, token = facts.outcome, facts.token.token
    if outcome is None or token is None:
        return None
    issued, published = outcome.credentials, facts.issuer.published if facts.issuer else None
    return exchange.ExchangeFacts(
        role=facts.role,
        token=token,
        kid=facts.token.kid,
        requested_seconds=outcome.requested_seconds,
        sts_host=outcome.sts_host,
        issued=exchange.Issued(issued.access_key_id, issued.expires_at, outcome.seconds) if issued else None,
        error=outcome.error,
        kids=tuple(str(key.get("kid")) for key in published.keys) if published else None,
        client_ids=facts.trust.client_ids if facts.trust else None,
        policy_mismatch=policy_mismatch(facts.trust) if facts.trust else None,
        is_unreachable=is_unreachable,
    )
