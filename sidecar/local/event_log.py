"""
Send each event of `local` to the log and to the feed.

Rule: the log is the same with and without a feed. A field of FEED_ONLY_FIELDS is not logged. The level of the log does
not filter the feed.
"""

from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

import structlog

from sidecar.clock import instant_text
from sidecar.local.events import FEED_ONLY_FIELDS, Emit
from sidecar.local.feed import Component, Feed
from sidecar.log import Logger

PROBLEMS = frozenset(
    {
        "background_task_failed",
        "control_failed",
        "page_failed",
        "page_link_rejected",
        "request_failed",
        "request_rejected",
        "request_unanswered",
        "token_renewal_failed",
        "trust_statement_not_evaluated",
    }
)
"""Events of the local services that appear even with `--log-level warning`."""

CLIENT_EVENTS = frozenset({"credentials_served", "request_denied"})
"""Events of the daemon that show what a client did."""


def service_emit(log: Logger | None, feed: Feed) -> Emit:
    """Return the function that publishes an event of a local service, and logs it if there is a log."""

    def emit(event: str, /, *, component: Component = "STS", **fields: Any) -> None:
        level = "warning" if event in PROBLEMS else "info"
        if log is not None:
            texts = {name: value for name, value in fields.items() if name not in FEED_ONLY_FIELDS}
            getattr(log, level)(event, **{name: _text(value) for name, value in texts.items()})
        feed.publish(component, event, level=level, **fields)

    return emit


def _text(value: Any) -> Any:
    """Return an instant in the format that AWS uses. Return other values unchanged."""
    return instant_text(value) if isinstance(value, datetime) else value


def daemon_log(log: Logger | None, feed: Feed) -> Logger:
    """
    Return a logger for the daemon.

    The logger publishes each event in the feed. If there is a `log`, the logger also passes each event on to `log`,
    which has its own level.
    """

    def publish(_log: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        fields = dict(event)
        name = fields.pop("event")
        feed.publish("client" if name in CLIENT_EVENTS else "daemon", name, level=level, **fields)
        if log is None:
            raise structlog.DropEvent
        return (name,), fields

    observed: Logger = structlog.wrap_logger(
        structlog.ReturnLogger() if log is None else log,
        processors=[publish],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        context_class=dict,
    )
    return observed
