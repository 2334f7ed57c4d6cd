"""Test the daemon with fallback regions, with fake clocks: outages, refusals and failbacks."""

import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from benchmarks.subjects import free_port
from sidecar.daemon.daemon import Daemon, Listeners, make_daemon
from sidecar.errors import ConfigurationError, ExchangeError, NextStep
from sidecar.metrics import Metrics
from sidecar.refresh import schedule
from sidecar.refresh.refresher import Sources
from sidecar.sts.client import StsClient
from sidecar.sts.failover import FAILBACK_SECONDS, MAX_OUTAGES
from sidecar.sts.regions import StsRegion, StsRegions, open_regions
from sidecar.sts.request import fallbacks_of
from sidecar.sts.settings import StsSettings
from tests.support.fakes.clock import FakeWall
from tests.support.fakes.exchange import FakeExchange, refusal
from tests.support.fakes.kubelet import FakeVolume
from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import scripted_sts
from tests.unit.daemon.test_daemon import make_config, make_log

HOME, NEXT, LAST = "eu-west-1", "eu-central-1", "eu-north-1"
OUT = ExchangeError("Unreachable", "nothing there", NextStep.RETRY)
SETTINGS = StsSettings(HOME, None, use_fips=False, use_dualstack=False, ca_bundle=None)


@dataclass
class Scene:
    """A daemon and the fakes of its regions, by name."""

    daemon: Daemon
    sts: dict[str, FakeExchange]
    regions: StsRegions
    metrics: Metrics
    events: list[Any]

    def fail(self, error: Exception | None, *names: str) -> None:
        for name in names:
            self.sts[name].error = error

    @property
    def is_served(self) -> bool:
        return self.daemon.role.store.valid_snapshot(self.daemon.clock.now()) is not None

    @property
    def changes(self) -> list[tuple[str, str]]:
        changes = [event for event in self.events if event["event"] == "sts_endpoint_changed"]
        return [(event["from"], event["to"]) for event in changes]

    def attempts(self) -> int:
        return sum(len(sts.called_at) for sts in self.sts.values())


@pytest.fixture
async def scene(wall: FakeWall, volume: FakeVolume) -> Scene:
    volume.write(service_account_token(wall.time()))
    sts = {name: FakeExchange(wall.time) for name in (HOME, NEXT, LAST)}
    events: list[Any] = []
    log, metrics = make_log(events), Metrics()
    regions = StsRegions(
        [StsRegion(*pair) for pair in sts.items()], monotonic=wall.clock.monotonic, log=log, metrics=metrics
    )
    daemon = make_daemon(
        make_config(volume.path), regions.exchange, sources=Sources(wall.clock, lambda: 0.5), log=log, metrics=metrics
    )
    return Scene(daemon, sts, regions, metrics, events)


@asynccontextmanager
async def serving(daemon: Daemon) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.serve, Listeners())
        yield
        nursery.cancel_scope.cancel()


async def test_healthy_primary_receives_every_request(autojump_clock: MockClock, scene: Scene) -> None:
    async with serving(scene.daemon):
        await trio.sleep(10 * 3600)
    assert scene.attempts() == len(scene.sts[HOME].called_at) >= 20
    assert scene.changes == []
    assert scene.metrics.sts_regions == {HOME: True, NEXT: False, LAST: False}


async def test_first_credentials_come_from_the_fallback_within_seconds(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME)
    async with serving(scene.daemon):
        await scene.daemon.roles.first_credentials()
    assert trio.current_time() < scene.sts[HOME].called_at[0] + 10
    assert len(scene.sts[HOME].called_at) == MAX_OUTAGES
    assert len(scene.sts[NEXT].called_at) == 1
    assert scene.sts[LAST].called_at == []


async def test_region_change_is_logged_once_and_in_metrics(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME)
    async with serving(scene.daemon):
        await trio.sleep(1000)
    changes = [event for event in scene.events if event["event"] == "sts_endpoint_changed"]
    assert changes == [
        {
            "event": "sts_endpoint_changed",
            "level": "warning",
            "from": HOME,
            "to": NEXT,
            "reason": "Unreachable: nothing there",
        }
    ]
    assert scene.metrics.sts_regions == {HOME: False, NEXT: True, LAST: False}
    assert scene.metrics.sts_endpoint_changes == 1
    assert scene.regions.active == NEXT


async def test_recovered_primary_is_active_at_the_next_refresh(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME)
    async with serving(scene.daemon):
        await trio.sleep(60)
        scene.fail(None, HOME)
        await trio.sleep(4 * 3600)
    assert scene.changes == [(HOME, NEXT), (NEXT, HOME)]
    assert len(scene.sts[NEXT].called_at) == 1
    assert scene.metrics.sts_regions[HOME]
    assert scene.metrics.sts_endpoint_changes == 2


async def test_failed_failback_uses_the_active_region_at_once(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME)
    async with serving(scene.daemon):
        await trio.sleep(60)
        scene.events.clear()
        await trio.sleep(4 * 3600)
    returns = scene.sts[HOME].called_at[MAX_OUTAGES:]
    assert returns == scene.sts[NEXT].called_at[1:]
    assert len(returns) == 8
    assert scene.changes == []
    assert not [event for event in scene.events if event["event"] == "refresh_failed"]


@pytest.mark.parametrize(
    ("code", "next_step"),
    [
        ("AccessDenied", NextStep.WAIT),
        ("ExpiredTokenException", NextStep.WAIT_FOR_TOKEN),
        ("Throttling", NextStep.SLOW_DOWN),
        ("ValidationError", NextStep.ASK_OPERATOR),
        ("IDPCommunicationError", NextStep.RETRY),
    ],
)
async def test_refusal_does_not_send_the_token_to_another_region(
    autojump_clock: MockClock, scene: Scene, code: str, next_step: NextStep
) -> None:
    scene.fail(refusal(code, next_step), HOME)
    async with serving(scene.daemon):
        await trio.sleep(2 * 3600)
    assert scene.attempts() == len(scene.sts[HOME].called_at) > MAX_OUTAGES
    assert scene.changes == []


async def test_region_inactive_for_the_account_is_skipped(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME)
    scene.fail(refusal("RegionDisabledException", NextStep.WAIT), NEXT)
    async with serving(scene.daemon):
        await scene.daemon.roles.first_credentials()
    assert scene.changes == [(HOME, NEXT), (NEXT, LAST)]


async def test_outage_of_all_regions_causes_few_attempts(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(OUT, HOME, NEXT, LAST)
    hours = 6
    async with serving(scene.daemon):
        await trio.sleep(hours * 3600)
        back_off = schedule.BACK_OFFS[NextStep.RETRY]
        alone = hours * 3600 / (back_off.cap_seconds * (back_off.floor + 1) / 2) + 20
        assert scene.attempts() <= alone + hours * 3600 / FAILBACK_SECONDS
        assert min(len(sts.called_at) for sts in scene.sts.values()) > alone / 4  # each region was called
        scene.fail(None, LAST)
        await trio.sleep(3 * MAX_OUTAGES * back_off.cap_seconds)
        assert scene.is_served
    assert scene.changes[:3] == [(HOME, NEXT), (NEXT, LAST), (LAST, HOME)]


async def test_credentials_survive_an_outage_that_changes_regions(autojump_clock: MockClock, scene: Scene) -> None:
    async with serving(scene.daemon):
        await scene.daemon.roles.first_credentials()
        for out in [(HOME,), (HOME, NEXT), (NEXT, LAST), (LAST,), (HOME, LAST)] * 3:
            scene.fail(None, *scene.sts)
            scene.fail(OUT, *out)
            for _ in range(60):
                await trio.sleep(60)
                assert scene.is_served


async def test_exception_in_an_exchange_does_not_change_the_region(autojump_clock: MockClock, scene: Scene) -> None:
    scene.fail(ZeroDivisionError("a bug"), HOME)
    async with serving(scene.daemon):
        await trio.sleep(600)
    assert scene.changes == []
    assert scene.attempts() == len(scene.sts[HOME].called_at)


# Real clients


@pytest.mark.parametrize("broken", [None, error_reply(500, "InternalFailure"), Reply(raw=b"", reset=True)])
async def test_real_clients_fail_over_to_a_healthy_region(
    autojump_clock: MockClock, wall: FakeWall, volume: FakeVolume, broken: Reply | None
) -> None:
    autojump_clock.autojump_threshold = 0.02  # time for the kernel to deliver the bytes
    volume.write(service_account_token(wall.time()))
    events: list[Any] = []
    log, metrics = make_log(events), Metrics()
    async with (
        scripted_sts(broken or good_reply()) as first,
        scripted_sts(good_reply("ASIAFALLBACK")) as second,
        StsClient(first.url if broken else f"http://127.0.0.1:{free_port()}/") as out,
        StsClient(second.url) as answering,
    ):
        pairs = [StsRegion(HOME, out.exchange), StsRegion(NEXT, answering.exchange)]
        regions = StsRegions(pairs, monotonic=wall.clock.monotonic, log=log, metrics=metrics)
        daemon = make_daemon(
            make_config(volume.path),
            regions.exchange,
            sources=Sources(wall.clock, lambda: 0.5),
            log=log,
            metrics=metrics,
        )
        async with serving(daemon):
            await daemon.roles.first_credentials()
    assert daemon.role.store.snapshot is not None
    assert daemon.role.store.snapshot.credentials.access_key_id == "ASIAFALLBACK"
    assert len(first.requests) == (MAX_OUTAGES if broken else 0)
    assert len(second.requests) == 1
    assert regions.active == NEXT


# Settings


async def open_with(settings: StsSettings) -> tuple[Metrics, int]:
    """Open the regions, and return the metrics and the number of created TLS contexts."""
    metrics, before = Metrics(), contexts()
    async with open_regions(settings, monotonic=trio.current_time, log=make_log([]), metrics=metrics):
        return metrics, contexts() - before


def contexts() -> int:
    gc.collect()
    return sum(isinstance(thing, ssl.SSLContext) for thing in gc.get_objects())


async def test_clients_share_their_authorities() -> None:
    metrics, more = await open_with(SETTINGS._replace(fallback_regions=(NEXT, LAST)))
    assert metrics.sts_regions == {HOME: True, NEXT: False, LAST: False}
    _, alone = await open_with(SETTINGS)
    assert more == alone > 0


async def test_configured_endpoint_is_named_by_its_url() -> None:
    metrics, _ = await open_with(SETTINGS._replace(endpoint_url="http://127.0.0.1:1"))
    assert metrics.sts_regions == {"http://127.0.0.1:1/": True}


def test_fallback_urls_have_the_flags_of_the_primary() -> None:
    american = SETTINGS._replace(region="us-east-1", fallback_regions=("us-west-2", "ca-central-1"))
    assert fallbacks_of(SETTINGS) == []
    assert fallbacks_of(american) == ["https://sts.us-west-2.amazonaws.com", "https://sts.ca-central-1.amazonaws.com"]
    assert fallbacks_of(american._replace(use_fips=True, use_dualstack=True)) == [
        "https://sts-fips.us-west-2.api.aws",
        "https://sts-fips.ca-central-1.api.aws",
    ]
    chinese = SETTINGS._replace(region="cn-north-1", fallback_regions=("cn-northwest-1",))
    assert fallbacks_of(chinese) == ["https://sts.cn-northwest-1.amazonaws.com.cn"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fallback_regions": ("cn-north-1",)}, ["'cn-north-1'", "partition aws,", "'eu-west-1'"]),
        ({"fallback_regions": ("us-gov-west-1",)}, ["'us-gov-west-1'", "partition aws,"]),
        ({"fallback_regions": ("frankfurt",)}, ["'frankfurt'", "Use regions of aws"]),
        ({"fallback_regions": ("eu central 1",)}, ["'eu central 1'"]),
        ({"fallback_regions": ("eu-\u00fcber-1",)}, ["not a region of partition aws"]),
        ({"fallback_regions": ("eu-a_b-1",)}, ["'eu-a_b-1'", "not a region of partition aws"]),
        ({"fallback_regions": ("evil.example/",)}, ["'evil.example/'"]),
        ({"fallback_regions": (HOME,)}, ["'eu-west-1'", "already the STS of", "Remove it"]),
        ({"fallback_regions": (NEXT, NEXT)}, ["'eu-central-1'", "already the STS of"]),
        ({"fallback_regions": ("fips-eu-west-1",), "use_fips": True}, ["'fips-eu-west-1'", "already the STS of"]),
        ({"fallback_regions": (NEXT,), "endpoint_url": "https://sts.example"}, ["AWS_ENDPOINT_URL_STS", "Unset one"]),
    ],
)
def test_unusable_fallbacks_are_reported_with_the_fix(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        fallbacks_of(SETTINGS._replace(**changes))
    assert refused.value.setting == "IRSA_SIDECAR_STS_FALLBACK_REGIONS"
    for word in words:
        assert word in str(refused.value)
