"""Provide a fake API server with the documents of an installed webhook."""

from collections.abc import Iterator

import pytest

from tests.support.fakes.api_server import FakeApiServer, api_server
from tests.unit.webhook.cluster import fill


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fill(fake)
        yield fake
