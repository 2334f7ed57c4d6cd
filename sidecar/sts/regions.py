"""
STS in each region that may be asked, as one: whoever exchanges need not know which is in use.

It keeps the state that failover.py decides on, and tells of every change. A region in which the first is tried again
and found still out costs the caller no failure: the one in use is asked at once, and its word counts.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from sidecar.errors import ExchangeError
from sidecar.log import Logger
from sidecar.metrics import Metrics
from sidecar.sts.client import Exchange, ExchangeReply, StsClient, open_client
from sidecar.sts.failover import FIRST, Failover, after_outage, after_refusal, after_success, is_outage
from sidecar.sts.request import ExchangeRequest, fallbacks_of
from sidecar.sts.settings import StsSettings
from sidecar.token import Token


class StsRegion(NamedTuple):
    """One region's STS, by the name that logs and metrics give it."""

    region: str
    exchange: Exchange


class StsRegions:
    """The regions in the order in which they are turned to. `monotonic` gives the time in seconds."""

    def __init__(
        self, regions: Sequence[StsRegion], *, monotonic: Callable[[], float], log: Logger, metrics: Metrics
    ) -> None:
        self._regions = regions
        self._monotonic = monotonic
        self._log = log
        self._metrics = metrics
        self._failover = Failover(len(regions))
        self._show()

    @property
    def in_use(self) -> str:
        """The name of the region that is asked."""
        return self._regions[self._failover.in_use].region

    async def exchange(self, request: ExchangeRequest, token: Token) -> ExchangeReply:
        """Trade `token` for credentials of the role, where that works. Raises ExchangeError of the region in use."""
        asked = self._failover.endpoint_at(self._monotonic())
        if asked != self._failover.in_use:
            with suppress(ExchangeError):
                return await self._ask(asked, request, token)
        return await self._ask(self._failover.in_use, request, token)

    async def _ask(self, number: int, request: ExchangeRequest, token: Token) -> ExchangeReply:
        try:
            reply = await self._regions[number].exchange(request, token)
        except ExchangeError as error:
            follow = after_outage if is_outage(error, number) else after_refusal
            self._go_on(follow(self._failover, number, self._monotonic()), str(error))
            raise
        self._go_on(after_success(self._failover, number), "it gives credentials again")
        return reply

    def _go_on(self, new: Failover, reason: str) -> None:
        old, self._failover = self._failover, new
        if new.in_use != old.in_use:
            self._metrics.sts_endpoint_changes += 1
            self._show()
            ends = {"from": self._regions[old.in_use].region, "to": self._regions[new.in_use].region}
            tell = self._log.info if new.in_use == FIRST else self._log.warning
            tell("sts_endpoint_changed", **ends, reason=reason)

    def _show(self) -> None:
        self._metrics.sts_regions = {
            name: number == self._failover.in_use for number, (name, _) in enumerate(self._regions)
        }


def _tell_of_bundle(log: Logger, metrics: Metrics, path: str, error: Exception | None) -> None:
    metrics.is_ca_bundle_in_use = error is None
    if error is None:
        log.info("ca_bundle_reloaded", path=path)
    else:
        log.error("ca_bundle_rejected", path=path, reason=str(error), in_use="the authorities that were read before")


@asynccontextmanager
async def open_regions(
    settings: StsSettings, *, monotonic: Callable[[], float], log: Logger, metrics: Metrics
) -> AsyncIterator[StsRegions]:
    """
    STS as the settings say, its fallbacks included. Raises ConfigurationError.

    Every client is made now, so that a setting that cannot be used is told at the start and not in an outage. One more
    weighs 4 KiB.
    """
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_client(settings))
        if settings.ca_bundle is not None and first.authorities is not None:
            metrics.is_ca_bundle_in_use = True
            first.authorities.report = partial(_tell_of_bundle, log, metrics)
        name = settings.region if settings.region and settings.endpoint_url is None else first.url
        regions = [StsRegion(name, first.exchange)]
        for region, url in zip(settings.fallback_regions, fallbacks_of(settings), strict=True):
            client = await stack.enter_async_context(
                StsClient(url, region=region, authorities=first.authorities, app_id=settings.app_id)
            )
            regions.append(StsRegion(region, client.exchange))
        yield StsRegions(regions, monotonic=monotonic, log=log, metrics=metrics)
