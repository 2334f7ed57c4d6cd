"""
Send each event of `local` to the log and to the feed.

Rule: the log is the same with and without a feed. A field of FEED_ONLY_FIELDS is not logged, and the log's level does
not filter the feed.
"""

from collections.abc import Mapping, MutableMapping
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
        "request_failed",
        "request_rejected",
        "token_renewal_failed",
        "trust_statement_not_evaluated",
    }
)
"""Events of the local services that appear even with `--log-level warning`."""

CLIENT_EVENTS = frozenset({"credentials_served", "request_denied"})
"""Events of the daemon that show what a client did."""


def service_emit(log: Logger, feed: Feed) -> Emit:
    """Return the function that logs and publishes an event of a local service."""

    def emit(event: str, /, *, component: Component = "STS", **fields: Any) -> None:
        log_service_event(log, event, fields)
        feed.publish(component, event, **fields)

    return emit


def log_service_event(log: Logger, event: str, fields: Mapping[str, Any]) -> None:
    """Log an event of a local service, with instants in the format that AWS uses."""
    texts = {
        name: instant_text(value) if isinstance(value, datetime) else value
        for name, value in fields.items()
        if name not in FEED_ONLY_FIELDS
    }
    level = "warning" if event in PROBLEMS else "info"
    getattr(log, level)(event, **texts)


def daemon_log(log: Logger, feed: Feed) -> Logger:
    """Return a logger for the daemon. It publishes each event, and passes it on to `log`, which has its own level."""

    def publish(_log: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        fields = dict(event)
        name = fields.pop("event")
        feed.publish("client" if name in CLIENT_EVENTS else "daemon", name, **fields)
        return (name,), fields

    observed: Logger = structlog.wrap_logger(
        log, processors=[publish], wrapper_class=structlog.make_filtering_bound_logger("debug"), context_class=dict
    )
    return observed
