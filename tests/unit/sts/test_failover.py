"""Test the choice of the endpoint for arbitrary sequences of outcomes."""

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.errors import NEXT_STEPS
from sidecar.sts.failover import (
    FAILBACK_SECONDS,
    MAX_OUTAGES,
    PRIMARY,
    Failover,
    after_outage,
    after_refusal,
    after_success,
    is_outage,
)


class Outcome(NamedTuple):
    """An outcome after `wait_seconds`. Endpoints in `out` are down. With `refused`, the others reject the request."""

    wait_seconds: float
    out: frozenset[int]
    refused: bool


class Request(NamedTuple):
    """One request: the number of its endpoint, its time, and the states before and after the request."""

    number: int
    at: float
    before: Failover
    after: Failover
    outcome: Outcome


endpoint_counts = st.integers(1, 4)
waits = st.sampled_from([0.0, 1.0, 60.0, FAILBACK_SECONDS - 1, FAILBACK_SECONDS, 1800.0])
outcomes = st.builds(Outcome, waits, st.frozensets(st.integers(0, 3)), st.booleans())
histories = st.lists(outcomes, max_size=60)


def follow(before: Failover, number: int, outcome: Outcome, now: float) -> Failover:
    if number in outcome.out:
        return after_outage(before, number, now)
    return after_refusal(before, number, now) if outcome.refused else after_success(before, number)


def walk(endpoints: int, history: list[Outcome]) -> list[Request]:
    """Return the requests of this history. A failed failback calls the active endpoint next, as in regions.py."""
    state, now, requests = Failover(endpoints), 0.0, []
    for outcome in history:
        now += outcome.wait_seconds
        for number in dict.fromkeys([state.endpoint_at(now), state.active]):
            before, state = state, follow(state, number, outcome, now)
            requests.append(Request(number, now, before, state, outcome))
            if number not in outcome.out and not outcome.refused:
                break
    return requests


@given(endpoint_counts, histories)
def test_failover_uses_only_listed_endpoints(endpoints: int, history: list[Outcome]) -> None:
    for request in walk(endpoints, history):
        assert 0 <= request.number < endpoints
        assert 0 <= request.after.active < endpoints


@given(endpoint_counts, histories)
def test_failover_leaves_an_endpoint_after_max_outages(endpoints: int, history: list[Outcome]) -> None:
    in_a_row = 0
    for request in walk(endpoints, history):
        if request.number == request.before.active:
            in_a_row = in_a_row + 1 if request.number in request.outcome.out else 0
        if request.after.active == request.before.active:
            assert in_a_row < MAX_OUTAGES or endpoints == 1
        elif request.number == request.before.active:
            assert in_a_row == MAX_OUTAGES
            assert request.after.active == (request.before.active + 1) % endpoints
            in_a_row = 0
        else:
            assert (request.number, request.after.active) == (PRIMARY, PRIMARY)
            assert PRIMARY not in request.outcome.out
            assert not request.outcome.refused
            in_a_row = 0


@given(endpoint_counts, histories)
def test_refusal_does_not_change_the_active_endpoint(endpoints: int, history: list[Outcome]) -> None:
    for request in walk(endpoints, history):
        if request.outcome.refused and request.number not in request.outcome.out:
            assert request.after.active == request.before.active


@given(endpoint_counts, histories)
def test_failback_sends_one_request_per_interval(endpoints: int, history: list[Outcome]) -> None:
    requests = walk(endpoints, history)
    extra = [request.at for request in requests if request.number != request.before.active]
    assert all(later - earlier >= FAILBACK_SECONDS for earlier, later in pairwise(extra))
    assert len(requests) <= len(history) + len(extra)


@given(endpoint_counts, histories)
def test_failback_is_tried_until_the_primary_succeeds(endpoints: int, history: list[Outcome]) -> None:
    requests = walk(endpoints, history)
    state, now = (requests[-1].after, requests[-1].at) if requests else (Failover(endpoints), 0.0)
    assert state.endpoint_at(now + FAILBACK_SECONDS) == PRIMARY
    assert after_success(state, PRIMARY) == Failover(endpoints)


@given(endpoint_counts, histories, st.integers(0, 3), outcomes)
def test_late_outcome_activates_only_the_primary(
    endpoints: int, history: list[Outcome], number: int, outcome: Outcome
) -> None:
    requests = walk(endpoints, history)
    state = requests[-1].after if requests else Failover(endpoints)
    if number != state.active:
        assert follow(state, number, outcome, 1e9).active in {state.active, PRIMARY}


@pytest.mark.parametrize("endpoints", [1, 2, 3])
def test_failover_cycles_while_all_endpoints_are_down(endpoints: int) -> None:
    everywhere = Outcome(1.0, frozenset(range(endpoints)), refused=False)
    turns = [request.number for request in walk(endpoints, [everywhere] * (2 * endpoints * MAX_OUTAGES))]
    assert turns == [number for number in [*range(endpoints)] * 2 for _ in range(MAX_OUTAGES)]


def test_failover_to_the_next_fallback_keeps_the_failback_time() -> None:
    state = Failover(3, active=1, outages=MAX_OUTAGES - 1, failback_at=700.0)
    assert after_outage(state, 1, now=650.0) == Failover(3, active=2, failback_at=700.0)


# Outages and refusals


def error(code: str, status: int | None, next_step: NextStep = NextStep.RETRY) -> ExchangeError:
    return ExchangeError(code, "says the test", next_step, status=status)


@pytest.mark.parametrize("code", ["Timeout", "Unreachable", "Tls", "Proxy"])
def test_unreachable_endpoint_is_an_outage(code: str) -> None:
    assert is_outage(error(code, None), PRIMARY)


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalFailure", 500), ("Http502", 502), ("ServiceUnavailable", 503), ("Http504", 504)],
)
def test_server_error_is_an_outage(code: str, status: int) -> None:
    assert is_outage(error(code, status), PRIMARY)


@pytest.mark.parametrize("code", ["RegionDisabledException", "OptInRequired"])
def test_inactive_fallback_region_is_an_outage(code: str) -> None:
    """Check also that an inactive primary region does not count as an outage."""
    assert is_outage(error(code, 403, NextStep.WAIT), PRIMARY + 1)
    assert not is_outage(error(code, 403, NextStep.WAIT), PRIMARY)


@pytest.mark.parametrize("code", sorted(NEXT_STEPS.keys() - {"RegionDisabledException", "OptInRequired"}))
@pytest.mark.parametrize("status", [400, 403, 429])
def test_refusal_is_not_an_outage(code: str, status: int) -> None:
    assert not is_outage(error(code, status, NEXT_STEPS[code]), PRIMARY + 1)


@pytest.mark.parametrize(
    ("code", "status", "next_step"),
    [
        ("SlowDown", 503, NextStep.SLOW_DOWN),
        ("Http509", 509, NextStep.SLOW_DOWN),
        ("MalformedReply", 200, NextStep.RETRY),
        ("MalformedReply", None, NextStep.RETRY),
        ("Http302", 302, NextStep.WAIT),
    ],
)
def test_throttling_or_foreign_response_is_not_an_outage(code: str, status: int | None, next_step: NextStep) -> None:
    assert not is_outage(error(code, status, next_step), PRIMARY)
