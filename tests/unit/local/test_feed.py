"""Test the feed of events: history, slow subscribers, secrets, and the log beside it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from sidecar.local.conditions import ComparedStatement, Comparison
from sidecar.local.event_log import daemon_log, service_emit
from sidecar.local.exchange import Exchange, TokenClaims
from sidecar.local.feed import HISTORY_EVENTS, Feed, LocalEvent, Subscription
from sidecar.log import make_logger
from tests.support.fakes.clock import EPOCH


def a_feed() -> Feed:
    return Feed(lambda: EPOCH)


async def taken(events: Subscription, count: int) -> list[LocalEvent]:
    return [await anext(events) for _ in range(count)]


async def test_subscriber_gets_the_history_and_new_events() -> None:
    feed = a_feed()
    feed.publish("kubelet", "token_renewed", path="/token")
    with feed.subscribe() as events:
        feed.publish("STS", "exchange_granted")
        first, second = await taken(events, 2)
    assert first == LocalEvent(EPOCH, "kubelet", "token_renewed", {"path": "/token"})
    assert (second.component, second.name) == ("STS", "exchange_granted")


async def test_waiting_subscriber_gets_the_next_event(nursery: trio.Nursery) -> None:
    feed, got = a_feed(), trio.Event()

    async def wait(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with feed.subscribe() as events:
            task_status.started()
            assert (await anext(events)).name == "stopped"
            got.set()

    await nursery.start(wait)
    await trio.testing.wait_all_tasks_blocked()
    feed.publish("daemon", "stopped")
    await got.wait()


async def test_slow_subscriber_loses_its_oldest_events() -> None:
    feed = a_feed()
    with feed.subscribe(max_events=2) as slow, feed.subscribe() as fast:
        for number in range(5):
            feed.publish("daemon", str(number))
        assert slow.lost == 3
        assert [event.name for event in await taken(slow, 2)] == ["3", "4"]
        assert fast.lost == 0
        assert [event.name for event in await taken(fast, 5)] == ["0", "1", "2", "3", "4"]


def test_history_keeps_the_newest_events() -> None:
    feed = a_feed()
    for number in range(HISTORY_EVENTS + 1):
        feed.publish("daemon", str(number))
    assert [event.name for event in feed.history] == [str(number) for number in range(1, HISTORY_EVENTS + 1)]


async def test_ended_subscription_gets_no_events() -> None:
    feed = a_feed()
    with feed.subscribe() as ended:
        pass
    feed.publish("daemon", "stopped")
    with trio.move_on_after(0), feed.subscribe():
        await anext(ended)
        raise AssertionError


def test_event_hides_passwords_exceptions_and_long_texts() -> None:
    feed = a_feed()
    feed.publish("daemon", "x", url="http://me:hunter2@proxy", exc=ValueError("hunter2"), text="y" * 9000)
    fields = feed.history[0].fields
    assert "hunter2" not in str(fields)
    assert fields["exc"] == "ValueError"
    assert len(fields["text"]) == 2000


def test_document_of_an_event_is_json() -> None:
    feed, at = a_feed(), datetime.fromtimestamp(EPOCH, UTC)
    comparison = Comparison("StringEquals", "a:sub", ("x",), (), holds=False, line=7)
    compared = (ComparedStatement("Statement 1", is_allow=True, comparisons=(comparison,)),)
    claims = TokenClaims("https://a", "x", ("sts",), EPOCH, None)
    exchange = Exchange("arn", claims, is_allowed=True, reason="why", compared=compared, expires_at=at)
    feed.publish("STS", "exchange_granted", exchange=exchange)
    document = json.loads(json.dumps(feed.history[0].document()))
    shown = document["fields"]["exchange"]
    assert shown["compared"][0]["comparisons"][0] == {
        "operator": "StringEquals", "key": "a:sub", "wanted": ["x"], "actual": [], "holds": False, "line": 7,
    }  # fmt: skip
    assert shown["claims"]["aud"] == ["sts"]
    assert shown["expires_at"].endswith("Z")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_has_no_fields_that_are_only_for_the_feed(tmp_path: Path) -> None:
    path, feed = tmp_path / "log", a_feed()
    with path.open("wb") as file:
        log, _ = make_logger("json", "info", fd=file.fileno())
        emit = service_emit(log, feed)
        emit("signing_keys_rotated", kid="k", component="issuer", exchange="x")
        emit("request_rejected", code="AccessDenied")
    first, second = lines_of(path)
    assert set(first) == {"event", "kid", "level", "time"}
    assert [first["level"], second["level"]] == ["info", "warning"]
    assert [event.component for event in feed.history] == ["issuer", "STS"]
    assert feed.history[0].fields == {"kid": "k", "exchange": "x", "level": "info"}


def test_feed_does_not_change_the_lines_of_the_daemon_log(tmp_path: Path) -> None:
    plain, observed, feed = tmp_path / "plain", tmp_path / "observed", a_feed()
    for path in (plain, observed):
        with path.open("wb") as file:
            log, _ = make_logger("json", "info", fd=file.fileno())
            log = log if path == plain else daemon_log(log, feed)
            log.bind(endpoint="imds").info("credentials_served", access_key_id="ASIA")
            log.debug("hidden", a=1)
            log.error("request_failed", exc=ValueError("hunter2"))
    without_times = [[line | {"time": ""} for line in lines_of(path)] for path in (plain, observed)]
    assert without_times[0] == without_times[1]
    assert [(event.component, event.name) for event in feed.history] == [
        ("client", "credentials_served"), ("daemon", "hidden"), ("daemon", "request_failed"),
    ]  # fmt: skip
    assert feed.history[0].fields["endpoint"] == "imds"


def test_feed_without_a_log_gets_the_same_events() -> None:
    feed = a_feed()
    service_emit(None, feed)("request_rejected", code="AccessDenied")
    daemon_log(None, feed).bind(endpoint="imds").warning("request_denied", reason="x")
    assert [dict(event.fields) for event in feed.history] == [
        {"level": "warning", "code": "AccessDenied"},
        {"level": "warning", "endpoint": "imds", "reason": "x"},
    ]


def test_listener_is_called_before_publish_returns() -> None:
    feed, seen = a_feed(), list[str]()
    with feed.subscribe() as events:
        events.listener = lambda: seen.extend(event.name for event in events.drain())
        feed.publish("daemon", "stopped")
        assert seen == ["stopped"]


def test_level_of_the_log_does_not_filter_the_feed(tmp_path: Path) -> None:
    feed = a_feed()
    with (tmp_path / "log").open("wb") as file:
        log, _ = make_logger("json", "warning", fd=file.fileno())
        daemon_log(log, feed).info("credentials_refreshed")
    assert (tmp_path / "log").read_text() == ""
    assert [event.name for event in feed.history] == ["credentials_refreshed"]
