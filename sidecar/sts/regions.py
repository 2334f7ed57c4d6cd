"""
Exchange tokens at the active STS region, and change the region during an outage.

The module keeps the state that failover.py computes, and logs and counts every change. A failed failback causes no
error for the caller: the active region receives the request at once, and its result counts.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from sidecar.errors import ExchangeError
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.sts.client import Exchange, ExchangeResult, StsClient, open_client
from sidecar.sts.failover import PRIMARY, Failover, after_outage, after_refusal, after_success, is_outage
from sidecar.sts.request import ExchangeRequest, fallbacks_of
from sidecar.sts.settings import StsSettings
from sidecar.token import Token


class StsRegion(NamedTuple):
    """The STS client of one region, with the region's name in logs and metrics."""

    region: str
    exchange: Exchange


class StsRegions:
    """The regions in the order of the failover. `monotonic` returns the time in seconds."""

    def __init__(
        self, regions: Sequence[StsRegion], *, monotonic: Callable[[], float], log: Logger, metrics: Metrics
    ) -> None:
        self._regions = regions
        self._monotonic = monotonic
        self._log = log
        self._metrics = metrics
        self._failover = Failover(len(regions))
        self._set_metric()

    @property
    def active(self) -> str:
        """The name of the region that receives requests."""
        return self._regions[self._failover.active].region

    async def exchange(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        """
        Exchange `token` for credentials of the role.

        Raises ExchangeError if the active region returns no credentials.
        """
        endpoint = self._failover.endpoint_at(self._monotonic())
        if endpoint != self._failover.active:
            with suppress(ExchangeError):
                return await self._exchange_at(endpoint, request, token)
        return await self._exchange_at(self._failover.active, request, token)

    async def _exchange_at(self, number: int, request: ExchangeRequest, token: Token) -> ExchangeResult:
        try:
            result = await self._regions[number].exchange(request, token)
        except ExchangeError as error:
            after = after_outage if is_outage(error, number) else after_refusal
            self._switch(after(self._failover, number, self._monotonic()), error.problem)
            raise
        self._switch(after_success(self._failover, number), "it returns credentials again")
        return result

    def _switch(self, new: Failover, reason: str) -> None:
        old, self._failover = self._failover, new
        if new.active != old.active:
            self._metrics.sts_endpoint_changes += 1
            self._set_metric()
            names = {"from": self._regions[old.active].region, "to": self._regions[new.active].region}
            log = self._log.info if new.active == PRIMARY else self._log.warning
            log("sts_endpoint_changed", **names, reason=reason)

    def _set_metric(self) -> None:
        self._metrics.sts_regions = {
            name: number == self._failover.active for number, (name, _) in enumerate(self._regions)
        }


def _report_bundle(log: Logger, metrics: Metrics, path: str, error: Exception | None) -> None:
    metrics.is_ca_bundle_in_use = error is None
    if error is None:
        log.info("ca_bundle_reloaded", path=path)
    else:
        log.error("ca_bundle_rejected", path=path, reason=str(error), still_active="the previous authorities")


@asynccontextmanager
async def open_regions(
    settings: StsSettings, *, monotonic: Callable[[], float], log: Logger, metrics: Metrics
) -> AsyncIterator[StsRegions]:
    """
    Open the STS regions of the settings, including the fallbacks.

    Raises ConfigurationError if a setting is invalid.

    All clients are created at the start, so that an invalid setting is reported then and not during an outage. Each
    additional client takes 4 KiB.
    """
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_client(settings))
        if settings.ca_bundle is not None and first.authorities is not None:
            metrics.is_ca_bundle_in_use = True
            first.authorities.report = partial(_report_bundle, log, metrics)
        name = settings.region if settings.region and settings.endpoint_url is None else first.url
        regions = [StsRegion(name, first.exchange)]
        for region, url in zip(settings.fallback_regions, fallbacks_of(settings), strict=True):
            client = await stack.enter_async_context(
                StsClient(url, region=region, authorities=first.authorities, app_id=settings.app_id)
            )
            regions.append(StsRegion(region, client.exchange))
        yield StsRegions(regions, monotonic=monotonic, log=log, metrics=metrics)
