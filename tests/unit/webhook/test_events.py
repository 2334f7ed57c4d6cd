"""Test the Events that repeat warnings for the owner of a Pod."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from sidecar.injection.warning import REASONS, Warned
from sidecar.kubernetes.async_client import open_api
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.webhook.events import Events as PodEvents
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.review import Outcome, ReviewResult
from tests.support.fakes.api_server import FakeApiServer, api_server
from tests.unit.webhook.cluster import Events, kubeconfig_file
from tests.unit.webhook.test_service_accounts import REVIEW


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    with api_server() as found:
        yield found


@pytest.mark.parametrize("reason", REASONS)
async def test_event_has_the_reason_of_its_warning(
    fake: FakeApiServer, tmp_path: Path, no_proxies: None, reason: str
) -> None:
    log = Events()
    async with open_api(find_cluster(kubeconfig_file(fake, tmp_path))) as api, trio.open_nursery() as nursery:
        events = PodEvents(api, log.log, WebhookMetrics(), lambda: 0.0, "here")
        events.emit(REVIEW, ReviewResult({}, Outcome.INJECTED, warnings=(Warned(reason, "A\x1b sentence."),)))
        nursery.start_soon(events.run)
        await log.logged("event_sent")
        nursery.cancel_scope.cancel()
    (sent,) = fake.bodies
    assert (sent["reason"], sent["message"]) == (reason, r"A\x1b sentence.")
