"""Test the decisions of a key rotation, by cases and in a simulated cluster."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.errors import SidecarError
from sidecar.setup.rotation import (
    MARGIN_SECONDS,
    MAX_TIME,
    Decision,
    History,
    Limits,
    Observation,
    Step,
    decide,
    expires_at,
    read_record,
    too_early,
    updated_history,
    written_record,
)

LIMITS = Limits(cache_seconds=3_600, token_seconds=86_400)
NOW = 1_000_000.0
OLD_ENOUGH = NOW - LIMITS.token_seconds - MARGIN_SECONDS


def seen(**changes: Any) -> Observation:
    """Return an observation of a cluster with the key "a", which signs and has been published for a long time."""
    a = frozenset("a")
    settled = Observation(own=a, accepted=a, stored=a, stored_at=0.0, served=a, signing=a, started_at=0.0, now=NOW)
    values: Any = {name: frozenset(value) if isinstance(value, str) else value for name, value in changes.items()}
    values = {"accepted": values.get("own", a), **values}
    return dataclasses.replace(settled, **values)


def next_step(observation: Observation, history: History) -> Decision:
    return decide(observation, history, updated_history(observation, history), LIMITS)


def test_clock_that_is_ahead_delays_the_end_of_old_tokens() -> None:
    for clock, stopped_at in (
        (NOW - 9, NOW),
        (NOW + MARGIN_SECONDS, NOW),
        (NOW + 1_000, NOW + 1_000),
        (9e99, MAX_TIME),
    ):
        observation = seen(own="ab", stored="ab", signing="b", clock=clock)
        assert updated_history(observation, {"a": None, "b": None}) == {"a": stopped_at, "b": None}


@pytest.mark.parametrize(
    ("observation", "history", "decision"),
    [
        (seen(stored="", served=""), {}, Decision(Step.PUBLISH, ("a",))),
        (seen(), {}, Decision(Step.RECORD, ("a",))),
        (seen(), {"a": None}, Decision(Step.NONE)),
        (seen(own="ab"), {"a": None}, Decision(Step.PUBLISH, ("b",))),
        (
            seen(own="ab", stored="ab", stored_at=NOW - 3_599, served="ab"),
            {"a": None},
            Decision(Step.WAIT_FOR_STS, ("b",), NOW + 1),
        ),
        (seen(own="ab", stored="ab", stored_at=NOW - 3_600), {"a": None}, Decision(Step.WAIT_FOR_STS, ("b",))),
        (
            seen(own="ab", stored="ab", stored_at=NOW - 3_600, served="ab"),
            {"a": None},
            Decision(Step.SIGN, ("b",)),
        ),
        (
            seen(own="ab", accepted="a", stored="ab", served="ab"),
            {"a": None},
            Decision(Step.ADD_TO_API_SERVERS, ("b",)),
        ),
        (
            seen(own="ab", stored="ab", served="ab", started_at=None),
            {"a": None},
            Decision(Step.WAIT_FOR_API_SERVERS, ("b",)),
        ),
        (seen(is_discoverable=False), {"a": None}, Decision(Step.PUBLISH, ("a",))),
        (seen(own="ab", stored="ab", signing="b"), {"a": None}, Decision(Step.RECORD, ("a", "b"))),
        (seen(own="ab", stored="ab", signing="ab"), {"a": None}, Decision(Step.RECORD, ("b",))),
        (
            seen(own="ab", stored="ab", signing="b"),
            {"a": NOW - 10, "b": None},
            Decision(Step.WAIT_FOR_TOKENS, ("a",), NOW - 10 + LIMITS.token_seconds + MARGIN_SECONDS),
        ),
        (
            seen(own="ab", stored="ab", signing="b", started_at=NOW - 10),
            {"a": OLD_ENOUGH, "b": None},
            Decision(Step.WAIT_FOR_TOKENS, ("a",), NOW - 10 + LIMITS.token_seconds + MARGIN_SECONDS),
        ),
        (
            seen(own="ab", stored="ab", signing="b", started_at=None),
            {"a": OLD_ENOUGH, "b": None},
            Decision(Step.WAIT_FOR_API_SERVERS, ("a",)),
        ),
        (
            seen(own="ab", stored="ab", signing="b"),
            {"a": OLD_ENOUGH, "b": None},
            Decision(Step.REMOVE_FROM_API_SERVER, ("a",)),
        ),
        (seen(own="b", stored="ab", signing="b"), {"a": OLD_ENOUGH, "b": None}, Decision(Step.REMOVE, ("a",))),
        (
            seen(own="b", stored="ab", signing="b"),
            {"a": OLD_ENOUGH + 1, "b": None},
            Decision(Step.WAIT_FOR_TOKENS, ("a",), NOW + 1),
        ),
        (seen(own="b", stored="ab", signing="b"), {"b": None}, Decision(Step.NAME_KEY, ("a",))),
        (seen(own="ac", stored="ab"), {"a": None}, Decision(Step.PUBLISH, ("c",))),
        (
            seen(own="bc", stored="abc", signing="b", stored_at=NOW),
            {"a": OLD_ENOUGH, "b": None},
            Decision(Step.REMOVE, ("a",)),
        ),
    ],
)
def test_next_step_follows_from_the_observation(observation: Observation, history: History, decision: Decision) -> None:
    assert next_step(observation, history) == decision


def test_history_keeps_a_stopped_key_until_it_is_removed() -> None:
    both = seen(own="ab", stored="ab", signing="b")
    assert updated_history(both, {"a": None}) == {"a": NOW, "b": None}
    assert updated_history(both, {"a": 5.0, "b": None}) == {"a": 5.0, "b": None}
    assert updated_history(seen(own="b", stored="b", signing="b"), {"a": 5.0, "b": None}) == {"b": None}


def test_key_that_signs_again_is_not_old() -> None:
    """A roll-back to the old key starts the waiting time again."""
    both = seen(own="ab", stored="ab", signing="ab")
    assert updated_history(both, {"a": 5.0, "b": None}) == {"a": None, "b": None}


def test_key_stops_signing_only_if_all_api_servers_responded() -> None:
    some = seen(own="ab", stored="ab", signing="b", started_at=None)
    assert updated_history(some, {"a": None}) == {"a": None, "b": None}
    assert expires_at(some, {"a": 5.0}, "a", LIMITS) is None


def test_retired_key_waits_from_now() -> None:
    both = seen(own="ab", stored="ab", signing="b")
    assert updated_history(both, {"b": None}, ["a"]) == {"a": NOW, "b": None}
    assert updated_history(both, {"a": 5.0, "b": None}, ["a"]) == {"a": 5.0, "b": None}


def test_key_removed_from_the_api_servers_too_early_is_found() -> None:
    history = {"a": NOW - 10, "b": None}
    assert too_early(seen(own="b", stored="ab", signing="b"), history, LIMITS) == {"a"}
    assert too_early(seen(own="ab", stored="ab", signing="b"), history, LIMITS) == frozenset()
    assert too_early(seen(own="b", stored="ab", signing="b", started_at=None), history, LIMITS) == frozenset()
    assert too_early(seen(own="b", stored="ab", signing="b"), {"a": OLD_ENOUGH, "b": None}, LIMITS) == frozenset()


def test_record_is_read_as_written() -> None:
    history = {"a": 5.5, "b": None}
    assert read_record(written_record(history), "s3://b/r") == history


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"version": 2, "signed": {}}', b'{"version": 1, "signed": [1]}',
     b'{"version": 1, "signed": {"a": "x"}}', b'{"version": 1, "signed": {"a": true}}',
     b'{"version": 1, "signed": {"a": NaN}}', b'{"version": 1, "signed": {"a": 1e300}}',
     b'{"version": 1, "signed": {"a": -1}}', b'{"version": 1, "signed": {"a": "5"}}',
     b"\xff", b'{"version": [], "signed": {}}', b"[" * 100_000],
)  # fmt: skip
def test_damaged_record_is_rejected(content: bytes) -> None:
    with pytest.raises(SidecarError, match="s3://b/r is not a record"):
        read_record(content, "s3://b/r")


class Rotations(RuleBasedStateMachine):
    """
    A cluster of three API servers. An operator changes flags, and a person calls `--step`, both at any time.

    The operator may do everything wrong. Only the keys that once were published and signed a valid token matter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.servers = [("a", NOW, frozenset("a"))] * 3
        self.stored: frozenset[str] = frozenset()
        self.stored_at = 0.0
        self.record = written_record({})
        self.expirations: dict[str, float] = {}
        self.removals = 0

    def _observe(self, reached: list[int]) -> Observation:
        samples = [self.servers[index] for index in reached]
        return Observation(
            own=frozenset().union(*(own for _, _, own in samples)),
            accepted=frozenset.intersection(*(own for _, _, own in samples)),
            stored=self.stored,
            stored_at=self.stored_at,
            served=self.stored,
            signing=frozenset(signing for signing, _, _ in samples),
            started_at=max(start for _, start, _ in samples) if len({*reached}) == 3 else None,
            now=self.now,
        )

    @rule(seconds=st.sampled_from([1, 600, 3_600, 43_200, 86_400, 100_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(index=st.integers(0, 2), signing=st.sampled_from("abc"), others=st.frozensets(st.sampled_from("abc")))
    def operator_restarts_an_api_server(self, index: int, signing: str, others: frozenset[str]) -> None:
        self.servers[index] = (signing, self.now, others | {signing})

    @rule(index=st.integers(0, 2))
    def pod_gets_a_token(self, index: int) -> None:
        self.expirations[self.servers[index][0]] = self.now + LIMITS.token_seconds

    @rule(reached=st.sampled_from([[0, 1, 2], [0, 1], [2], [1, 2]]))
    def somebody_steps(self, reached: list[int]) -> None:
        self._step(reached)

    def _step(self, reached: list[int]) -> Step:
        observation, history = self._observe(reached), read_record(self.record, "record")
        updated = updated_history(observation, history)
        decision = decide(observation, history, updated, LIMITS)
        if decision.step is Step.PUBLISH:
            self.stored, self.stored_at = self.stored | observation.own, self.now
        if decision.step is Step.REMOVE:
            self.stored, self.stored_at = self.stored - {*decision.keys}, self.now
            self.removals += 1
        if decision.step in {Step.PUBLISH, Step.REMOVE, Step.RECORD}:
            self.record = written_record({kid: at for kid, at in updated.items() if kid in self.stored})
        if decision.step is Step.SIGN:
            assert all({*decision.keys} <= own for _, _, own in self.servers)
        for kid in decision.keys if decision.step is Step.REMOVE else ():
            assert self.expirations.get(kid, 0.0) <= self.now
        return decision.step

    @precondition(lambda self: len({signing for signing, _, _ in self.servers}) == 1)
    @rule()
    def rotation_ends_if_the_operator_follows(self) -> None:
        """Follow every step until only the signing key is published. The number of steps is limited."""
        signing = self.servers[0][0]
        for _ in range(12):
            self.servers = [(signing, start, frozenset(signing)) for _, start, _ in self.servers]
            if self._step([0, 1, 2]) is Step.NAME_KEY:
                return
            self.now += 50_000
        assert self.stored == {signing}

    @invariant()
    def record_is_small_json(self) -> None:
        assert len(json.loads(self.record)["signed"]) <= 3


Rotations.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestRotations = Rotations.TestCase
