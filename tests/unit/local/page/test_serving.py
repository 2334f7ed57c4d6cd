"""Test the page beside real local services."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.clock import Clock
from sidecar.local.config import LocalConfig
from sidecar.local.feed import Feed, Subscription
from sidecar.local.page.serving import OpenPage, serve_page
from sidecar.local.services import serve_local
from tests.support.fakes.clock import EPOCH

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


class _World:
    """The services, their page, and the names and fields of all log events."""

    def __init__(self, private_key: RSAPrivateKey) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.clock = Clock(lambda: EPOCH + trio.current_time(), trio.current_time)
        self.feed = Feed(self.clock.wall)
        self._private_key = private_key

    def emit(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    async def start(self, nursery: trio.Nursery, directory: Path) -> OpenPage:
        serve = partial(serve_local, LocalConfig(), directory, emit=self.emit, clock=self.clock)
        services = await nursery.start(partial(serve, generate=lambda: self._private_key))
        self.token_file: Path = services.token_file
        page: OpenPage = await nursery.start(partial(serve_page, 0, services, self.feed, emit=self.emit))
        return page


@pytest.fixture
def world(private_keys: list[RSAPrivateKey]) -> _World:
    return _World(private_keys[0])


async def test_page_shows_the_token_without_its_signature(world: _World, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        page = await world.start(nursery, tmp_path)
        facts = page.facts()
        token = world.token_file.read_text()
        nursery.cancel_scope.cancel()
    shown = dict(facts["token"]["claims"])
    assert shown["aud"] == "sts.amazonaws.com"
    assert shown["sub"] == "system:serviceaccount:default:app"
    assert facts["token"]["expires_at"] - facts["token"]["issued_at"] >= 600
    assert facts["audiences"] == ["sts.amazonaws.com"]
    assert list(facts["policies"]) == ["arn:aws:iam::111122223333:role/app"]
    assert facts["is_serving"] is False
    assert page.one_time_url() != page.url
    assert token.rpartition(".")[2] not in json.dumps(facts)


class _OnceUnavailable(Feed):
    """A feed whose first subscription fails."""

    is_available = False

    @contextmanager
    def subscribe(self, max_events: int = 10) -> Iterator[Subscription]:
        if not self.is_available:
            self.is_available = True
            raise ValueError("unavailable")
        with super().subscribe(max_events) as subscription:
            yield subscription


async def test_failed_task_of_the_page_is_logged_and_restarted(
    world: _World, tmp_path: Path, autojump_clock: object
) -> None:
    world.feed = _OnceUnavailable(world.clock.wall)
    async with trio.open_nursery() as nursery:
        page = await world.start(nursery, tmp_path)
        await trio.sleep(60)
        assert page.facts()["controls"]
        nursery.cancel_scope.cancel()
    assert [fields for name, fields in world.events if name == "page_failed"] == [{"exception": "ValueError"}]
    assert world.feed.is_available
