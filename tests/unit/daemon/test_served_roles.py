"""Test several roles in one daemon: a failure affects no other role, and a new configuration replaces all at once."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.background import RESTART_SECONDS
from sidecar.credentials import Credentials
from sidecar.daemon.served_roles import MAX_ENDED
from sidecar.errors import ConfigurationError, ExchangeError, NextStep
from sidecar.refresh.schedule import CHANGED_TOKEN_PAUSE_SECONDS
from sidecar.role import ChainStep, Role
from sidecar.serving import admin
from sidecar.serving import container_credentials as endpoint
from sidecar.serving.http import Request
from tests.support.fakes.exchange import refusal
from tests.support.fakes.tokens import service_account_token
from tests.unit.daemon.several_roles import DENIED, Pod, arn


async def test_each_role_has_its_own_path_and_credentials(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    assert set(pod.daemon.roles.routes) == {b"/v1/credentials", b"/v1/credentials/reporting"}
    assert [len(pod.sts[name].called_at) for name in ("default", "reporting")] == [1, 1]
    assert pod.sts["reporting"].requests[0].role_arn == arn("reporting")


async def test_denied_or_failing_role_does_not_affect_others(autojump_clock: MockClock, pod: Pod) -> None:
    for error in (DENIED, ZeroDivisionError("a bug")):
        pod.sts["reporting"].error = error
        await trio.sleep(7300)
        assert pod.key("default") is not None
        assert pod.key("reporting") is None
    assert pod.logged("refresher_failed")[0]["role_name"] == "reporting"
    intervals = len(pod.sts["default"].called_at)
    assert intervals == pytest.approx(2 * 7300 / 1800, abs=1)
    pod.sts["reporting"].error = None
    await trio.sleep(2 * RESTART_SECONDS)
    assert pod.key("reporting") is not None


async def test_unchanged_role_keeps_its_refresh_loop(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    changes = pod.daemon.roles.replace([pod.role("default"), pod.role("archive")])
    assert changes == (["archive"], ["reporting"], [])
    assert b"/v1/credentials/reporting" not in pod.daemon.roles.routes
    await trio.sleep(1900)
    assert [len(pod.sts[name].called_at) for name in ("default", "reporting", "archive")] == [2, 1, 2]


async def test_changed_role_serves_old_credentials_until_a_refresh(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    pod.sts["reporting"].error = DENIED
    changes = pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", duration_seconds=900)])
    assert changes == ([], [], ["reporting"])
    await trio.sleep(300)
    assert pod.key("reporting") == "ASIAFAKE0001"
    pod.sts["reporting"].error = None
    pod.sts["reporting"].life_seconds = 900
    await trio.sleep(60)
    assert pod.key("reporting") not in {None, "ASIAFAKE0001"}, "the new credentials win although they expire sooner"
    assert pod.sts["reporting"].requests[-1].duration_seconds == 900


ALL_STEPS = [
    *(refusal("Nope", step) for step in NextStep),
    *(refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=seconds) for seconds in (60, 250)),
]


def different(pod: Pod, number: int) -> list[Role]:
    """Return the roles with one change of the role `reporting`. The role keeps its ARN and token file."""
    ways: list[dict[str, Any]] = [
        {"duration_seconds": 900 + number},
        {"session_name": f"name-{number}"},
        {"policy": f'{{"Id":"{number}"}}'},
        {"policy_arns": (f"arn:aws:iam::aws:policy/{number}",)},
        {"allow_uids": frozenset({os.getuid(), number + 1})},
    ]
    return [pod.role("default"), pod.role("reporting")._replace(**ways[number % len(ways)])]


@pytest.mark.parametrize("error", ALL_STEPS, ids=lambda error: f"{error.next_step.value}-{error.retry_after_seconds}")
async def test_changed_role_keeps_its_back_off(autojump_clock: MockClock, pod: Pod, error: ExchangeError) -> None:
    """Check that changes of the roles do not increase the number of calls to STS."""
    steady, changing = (pod.sts[name] for name in ("default", "reporting"))
    steady.error = changing.error = error
    await trio.sleep(1900)
    before = [len(sts.called_at) for sts in (steady, changing)]
    for number in range(1200):
        pod.daemon.roles.replace(different(pod, number))
        await trio.sleep(0.25)
    calls = [len(sts.called_at) - count for sts, count in zip((steady, changing), before, strict=True)]
    assert calls[1] <= calls[0] + 1
    steady.error = changing.error = None
    await trio.sleep(400)
    assert all(served.valid_snapshot(pod.wall.clock.now()) for served in pod.daemon.roles)


async def test_changed_role_waits_for_retry_after(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    sts = pod.sts["reporting"]
    sts.error = refusal("Throttling", NextStep.SLOW_DOWN, retry_after_seconds=60)
    await trio.sleep(1801)
    refused_at = sts.called_at[-1]
    for number in range(1, 50):
        pod.daemon.roles.replace(different(pod, number))
        await trio.sleep(1)
    assert sts.called_at[-1] == refused_at
    await trio.sleep(15)
    assert 60 <= sts.called_at[-1] - refused_at <= 66


@pytest.mark.parametrize("latency_seconds", [0.0, 0.5, 3.0])
async def test_constantly_changed_role_causes_one_call_per_pause(
    autojump_clock: MockClock, pod: Pod, latency_seconds: float
) -> None:
    """Include changes that cancel a call in progress, and roles that are renamed, removed and added again."""
    sts = pod.sts["reporting"]
    sts.latency_seconds = latency_seconds
    for number in range(400):
        default, reporting = different(pod, number)
        renamed = reporting._replace(name=f"reporting-{number}")
        pod.daemon.roles.replace([[default, reporting], [default, renamed], [default]][number % 3])
        await trio.sleep(0.25)
    assert len(sts.called_at) <= 100 / CHANGED_TOKEN_PAUSE_SECONDS + 2
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting")])
    await trio.sleep(CHANGED_TOKEN_PAUSE_SECONDS + latency_seconds + 1)
    assert pod.key("reporting") is not None


async def test_changed_role_is_tried_at_once_while_sts_works(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    await trio.sleep(60)
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", duration_seconds=900)])
    await trio.sleep(0.1)
    assert pod.sts["reporting"].requests[-1].duration_seconds == 900


@pytest.mark.parametrize("change", ["role_arn", "token_file", "chain"])
async def test_role_with_a_new_arn_token_or_chain_is_tried_at_once(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path, change: str
) -> None:
    """Ignore the back-off, because STS's error was about another request."""
    pod.sts["reporting"].error = refusal("ValidationError", NextStep.ASK_OPERATOR)
    await trio.sleep(100)
    token_file = tmp_path / "other-token"
    token_file.write_text(service_account_token(pod.wall.time()))
    ways: dict[str, dict[str, Any]] = {
        "role_arn": {"role_arn": arn("elsewhere")},
        "token_file": {"token_file": str(token_file)},
        "chain": {"chain": (ChainStep(arn("next")),)},
    }
    asked = sum(len(sts.called_at) for sts in pod.sts.by_arn.values())
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", **ways[change])])
    await trio.sleep(0.1)
    assert sum(len(sts.called_at) for sts in pod.sts.by_arn.values()) == asked + 1


async def test_failure_after_a_change_logs_the_old_expiration(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    expiration = pod.daemon.roles["reporting"].snapshot
    pod.sts["reporting"].error = DENIED
    await trio.sleep(60)
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", duration_seconds=900)])
    await trio.sleep(60)
    assert expiration is not None
    assert pod.logged("refresh_failed")[-1]["still_serving_until"] == expiration.credentials.expiration
    await trio.sleep(3600)
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", duration_seconds=901)])
    await trio.sleep(1200)
    assert pod.logged("refresh_failed")[-1]["still_serving_until"] is None


async def test_changed_role_keeps_the_reason_and_the_longest_duration(autojump_clock: MockClock, pod: Pod) -> None:
    longest = pod.role("reporting", duration_seconds=None)
    pod.daemon.roles.replace([pod.role("default"), longest])
    await trio.sleep(10_000)
    granted = pod.sts["reporting"].requests[-1].duration_seconds
    assert granted > 3600
    pod.sts["reporting"].error = DENIED
    await trio.sleep(10_000)
    pod.daemon.roles.replace([pod.role("default"), longest._replace(session_name="other")])
    assert "AccessDenied" in str(pod.daemon.roles["reporting"].last_error)
    pod.sts["reporting"].error = None
    await trio.sleep(100)
    assert pod.sts["reporting"].requests[-1].duration_seconds == granted


async def test_removed_roles_leave_no_secret_and_use_little_memory(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    for number in range(3 * MAX_ENDED):
        pod.daemon.roles.replace([pod.role("default"), pod.role("passing", role_arn=arn(f"passing-{number}"))])
        await trio.sleep(0.01)
    ended = pod.daemon.roles._ended
    assert len(ended) == MAX_ENDED
    assert "secret" not in repr(ended)
    assert not [found for found in gc.get_objects() if isinstance(found, Credentials) and "passing" in found.role_arn]


UNFORESEEN = [
    ZeroDivisionError("a bug"),
    KeyError("x"),
    AttributeError("no such thing"),
    RecursionError(),
    OSError(5, "x"),
]


@pytest.mark.parametrize("bug", UNFORESEEN, ids=lambda bug: type(bug).__name__)
async def test_exception_of_a_refresher_is_reported_everywhere(
    autojump_clock: MockClock, pod: Pod, bug: Exception
) -> None:
    """The 503, /readyz, a metric and the log show the exception until the refresher works again."""
    pod.sts["reporting"].error = bug
    pod.daemon.roles.replace([pod.role("default"), pod.role("reporting", session_name="other")])
    await trio.sleep(3 * RESTART_SECONDS + 4000)
    served, now = pod.daemon.roles["reporting"], pod.wall.clock.now()
    states = [role.state(now) for role in pod.daemon.roles]
    ready = admin.respond(Request(b"/readyz", b"HTTP/1.1", {}, 0), states, pod.daemon.metrics, 0, now).content
    for shown in (endpoint.unavailable(served).content, ready):
        assert type(bug).__name__.encode() in shown
        assert b"Report this as a bug" in shown
        assert b"still being fetched" not in shown
    assert pod.daemon.metrics.refreshes["reporting", "unexpected_error"] >= 3
    assert {entry["role_name"] for entry in pod.logged("refresher_failed")} == {"reporting"}
    pod.sts["reporting"].error = None
    await trio.sleep(2 * RESTART_SECONDS)
    assert served.last_error is None
    assert served.valid_snapshot(pod.wall.clock.now())


async def test_role_with_another_arn_drops_its_old_credentials(autojump_clock: MockClock, pod: Pod) -> None:
    await pod.daemon.roles.first_credentials()
    pod.sts["elsewhere"].error = DENIED
    pod.daemon.roles.replace([pod.role("default", role_arn=arn("elsewhere"))])
    assert pod.key("default") is None


async def test_main_role_is_the_role_default_or_the_first_role(autojump_clock: MockClock, pod: Pod) -> None:
    assert pod.daemon.roles.main.role_name == "default"
    pod.daemon.roles.replace([pod.role("reporting"), pod.role("default")])
    assert pod.daemon.roles.main.role_name == "default"
    pod.daemon.roles.replace([pod.role("reporting"), pod.role("archive")])
    assert pod.daemon.roles.main.role_name == "reporting"


async def test_invalid_configuration_does_not_change_the_roles(
    autojump_clock: MockClock, pod: Pod, tmp_path: Path
) -> None:
    await pod.daemon.roles.first_credentials()
    nowhere = str(tmp_path / "nowhere" / "secret")
    before = pod.daemon.roles.routes
    with pytest.raises(ConfigurationError, match=nowhere):
        await pod.daemon.roles.read_secrets([pod.role("reporting", authorization_token_file=nowhere)])
    assert pod.daemon.roles.routes is before
    await trio.sleep(1900)
    assert [len(pod.sts[name].called_at) for name in ("default", "reporting", "archive")] == [2, 2, 0]


@pytest.mark.parametrize(
    ("seconds", "chained_seconds", "is_warned_about"),
    [
        (900, None, True),
        (1799, None, True),
        (1800, None, False),
        (None, None, False),
        (3600, 900, True),
        (900, 1800, False),
    ],
)
async def test_short_session_of_a_changed_or_new_role_is_logged(
    autojump_clock: MockClock, pod: Pod, seconds: int | None, chained_seconds: int | None, *, is_warned_about: bool
) -> None:
    """With a chain, the duration of the last step counts, because its credentials are served."""
    chain = (ChainStep(arn("other"), duration_seconds=chained_seconds),) if chained_seconds else ()
    role = pod.role("reporting", duration_seconds=seconds, chain=chain)
    assert pod.logged("suspicious_setting_found") == []
    for name in ("reporting", "archive"):
        pod.daemon.roles.replace([pod.role("default"), role._replace(name=name)])
    reasons = [entry["reason"] for entry in pod.logged("suspicious_setting_found")]
    assert len(reasons) == (2 if is_warned_about else 0)
    assert all("1800 s or more" in reason and "refresh windows" in reason for reason in reasons)
