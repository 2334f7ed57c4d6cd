"""
Keep the state of the page current, and wake the streams that send it.

Rule: a stream sends whole states, and always the newest one. A slow browser therefore skips states, and needs no queue.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import trio

from sidecar.local.feed import Feed
from sidecar.local.page.state import PageState, after
from sidecar.serving.http_message import Send

PAUSE_SECONDS = 0.2
"""Minimum time between two states on one stream, so that a flood of events costs the process little."""

HEARTBEAT_SECONDS = 5.0
"""
Maximum time between two states on one stream.

The counts of responses change without an event. Without a state for some time, the page shows that it is not current.
"""


class LiveState:
    """
    The state of the page.

    `empty` is the state before the first event. `rest` returns the parts of the page that do not come from events.
    """

    def __init__(
        self, feed: Feed, empty: PageState, rest: Callable[[], Mapping[str, Any]], wall: Callable[[], float]
    ) -> None:
        self._feed = feed
        self._rest = rest
        self._wall = wall
        self._empty = self._state = empty
        self._changed = trio.Event()

    async def run(self) -> None:
        """Update the state after each event until cancelled."""
        self._state = self._empty
        with self._feed.subscribe() as events:
            async for event in events:
                self._state = after(self._state, event)
                self._changed.set()
                self._changed = trio.Event()

    def document(self) -> Mapping[str, Any]:
        """Return the content of the page, ready for JSON."""
        return {**asdict(self._state), **self._rest(), "now": self._wall()}

    async def stream(self, send: Send) -> None:
        """Send the state at once, after each change, and after HEARTBEAT_SECONDS without a change."""
        while True:
            changed = self._changed
            await send(f"data: {json.dumps(self.document())}\n\n".encode("ascii"))
            with trio.move_on_after(HEARTBEAT_SECONDS):
                await changed.wait()
            await trio.sleep(PAUSE_SECONDS)
