"""
Distribute the events of `local` to the terminal and to the page.

Rule: `publish` never waits and never raises. The history is bounded, and so is the queue of each subscriber. A slow
subscriber loses its oldest events, and `lost` counts them. No event contains a secret.

A subscriber is a task in the same trio run as the feed:

    with feed.subscribe() as events:
        async for event in events:
            send(event.document())

The subscription first yields the history, and then each new event. `event.document()` is ready for `json.dumps`. Call
`publish` only in trio's thread.

Fields of an event. The events `exchange_granted`, `role_assumed` and `request_rejected` of STS have a field `exchange`
of the type `sidecar.local.exchange.Exchange`: claims, conditions with their lines, decision and expiration.
Each event has its `level`: debug, info, warning or error. Other fields are those in the log:
docs/reference/log-events.md. Instants are texts such as `2026-01-02T03:04:05Z`.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

import trio

from sidecar.clock import instant_text
from sidecar.redaction import without_secrets

Component = Literal["kubelet", "issuer", "STS", "daemon", "client", "page"]

HISTORY_EVENTS = 200
"""Maximum number of past events that a new subscriber gets. The first minutes of `local` have about ten events."""

QUEUE_EVENTS = 500
"""Maximum number of events that wait for one subscriber."""

MAX_TEXT_CHARACTERS = 2000
"""Maximum number of characters of one text in an event. Callers of STS choose some of the texts."""


@dataclass(frozen=True, slots=True)
class LocalEvent:
    """One event. `at` is in Unix seconds. `name` is in the past tense, as in the log."""

    at: float
    component: Component
    name: str
    fields: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the event as values that JSON can represent."""
        return {"at": self.at, "component": self.component, "name": self.name, "fields": _plain(dict(self.fields))}


class Subscription:
    """
    The events for one subscriber. `lost` counts the events that were dropped because the subscriber was too slow.

    `listener` is called for each new event, before `publish` returns. It must not raise or block.
    """

    def __init__(self, history: Iterator[LocalEvent], max_events: int) -> None:
        self.lost = 0
        self.listener: Callable[[], object] = lambda: None
        self._waiting = deque(history, max_events)
        self._arrived = trio.Event()

    def __aiter__(self) -> AsyncIterator[LocalEvent]:
        return self

    async def __anext__(self) -> LocalEvent:
        await self.wait()
        await trio.lowlevel.checkpoint()
        return self._waiting.popleft()

    async def wait(self) -> None:
        """Wait until the subscription has an event."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def drain(self) -> Iterator[LocalEvent]:
        """Yield the events that already wait."""
        while self._waiting:
            yield self._waiting.popleft()

    def put(self, event: LocalEvent) -> None:
        self.lost += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(event)
        self.listener()
        self._arrived.set()


class Feed:
    """The history of events, and the subscriptions. `wall` returns the time in Unix seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._history: deque[LocalEvent] = deque(maxlen=HISTORY_EVENTS)
        self._subscriptions: list[Subscription] = []

    @property
    def history(self) -> tuple[LocalEvent, ...]:
        return tuple(self._history)

    def publish(self, component: Component, name: str, /, **fields: Any) -> None:
        """Add an event to the history and to each subscriber's queue."""
        shown = {key: _shown(value) for key, value in fields.items()}
        event = LocalEvent(self._wall(), component, name, MappingProxyType(shown))
        self._history.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextmanager
    def subscribe(self, max_events: int = QUEUE_EVENTS) -> Iterator[Subscription]:
        """Yield a subscription to the history and to all new events until the block ends."""
        subscription = Subscription(iter(self._history), max_events)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)


def _shown(value: Any) -> Any:
    """
    Return a text without secrets and of limited length, an exception's type, or an instant as text.

    Other values are returned unchanged.
    """
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, datetime):
        return instant_text(value)
    return without_secrets(value)[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(_shown(value))
