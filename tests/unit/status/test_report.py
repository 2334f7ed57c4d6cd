"""Test the report about Pods: its order, its width and height, and hostile names."""

import json
from typing import Any

import pytest

from sidecar.serving.status import FAILING, READY, UNAVAILABLE, DaemonStatus, Failure
from sidecar.status.report import View, as_json, as_text, fails, state_of
from sidecar.status.targets import PodState, Target
from tests.unit.serving.test_status import BROKEN, DAEMON, DENIED, HEALTHY

VIEW = View(80, "namespace shop, context lab")
ONE = DAEMON._replace(roles=(HEALTHY,))
NONE = DAEMON._replace(roles=(BROKEN._replace(name="default"),))


def pod(name: str, status: DaemonStatus | None = ONE, **target: Any) -> PodState:
    return PodState(Target("shop", name, "irsa-sidecar", ("0.0.0.0", 4773), **target), status)


LOST = pod("lost", None)._replace(problem="you may not get pods/proxy", next_step="Ask for the rule")


def text(*states: PodState, **view: Any) -> str:
    return as_text(states, VIEW._replace(**view))


def test_worst_pods_and_the_summary_come_last() -> None:
    lines = text(pod("broken", NONE), LOST, pod("well"), pod("old", ONE._replace(roles=(FAILED,)))).split("\n")
    assert [line.split()[0] for line in lines[:5]] == ["POD", "well", "old", "lost", "broken"]
    assert " ".join(lines[-2:]).endswith("lab:   1 ready, 1 failing, 1 unknown, 1 unavailable.")
    assert all(len(line) <= 80 for line in lines)


FAILED = HEALTHY._replace(state=FAILING, error=Failure("Timeout", "sts.example: no response", needs_person=False))


def test_pods_with_the_same_problem_share_a_paragraph() -> None:
    shown = text(*(pod(f"cart-{number}", NONE) for number in range(8)), width=200)
    assert f"cart-0, cart-1, cart-2, cart-3, cart-4 and 3 more: {DENIED.message}" in shown
    assert shown.count(DENIED.message) == 1


def test_problem_has_its_next_step() -> None:
    assert "lost: you may not get pods/proxy. Ask for the rule." in text(LOST)


def test_each_role_of_a_pod_has_a_row_and_its_problem_its_name() -> None:
    shown = text(pod("two", DAEMON))
    assert shown.count("\ntwo ") == 2
    assert "two: role reporting: Not authorized" in shown
    assert state_of(pod("two", DAEMON)) == UNAVAILABLE


def test_namespaces_are_shown_if_there_are_several() -> None:
    assert "shop/cart" in text(pod("cart"), has_namespaces=True)


@pytest.mark.parametrize(("uptime", "is_shown"), [(60.0, True), (7200.0, False)])
def test_recent_restart_is_mentioned(uptime: float, *, is_shown: bool) -> None:
    state = pod("cart", ONE._replace(uptime_seconds=uptime), restarts=3, last_exit="Its last exit status was 137")
    words = "cart: the sidecar restarted in the last hour. Its last exit status was 137."
    assert (words in text(state)) == is_shown


def test_report_about_a_named_pod_shows_its_clients() -> None:
    lines = text(pod("cart"), pod="cart").split("\n")
    assert lines[0].split() == ["ROLE", "STATE", "EXPIRES", "REFRESH", "LAST", "CALL", "LAST", "CLIENT", "SERVED"]
    assert "uid 1000 1m ago (+1)" in lines[1]
    assert lines[-1] == "Pod cart in namespace shop, context lab: ready."


def test_clock_skew_is_mentioned() -> None:
    skewed = ONE._replace(roles=(HEALTHY._replace(clock_skew_seconds=7200.0),))
    assert "the clock of the node is 2h0m behind that of STS" in " ".join(text(pod("cart", skewed)).split())


def test_starting_pod_is_mentioned() -> None:
    starting = ONE._replace(roles=(BROKEN._replace(state="starting", error=None),))
    assert "the first exchange with STS has not ended yet" in text(pod("cart", starting))


def test_report_without_pods_names_the_place() -> None:
    assert text() == "No Pod with a running sidecar in namespace shop, context lab."


@pytest.mark.parametrize("height", [6, 10, 24, 60])
@pytest.mark.parametrize("broken", [0, 1, 40, 500])
def test_report_fits_the_height(height: int, broken: int) -> None:
    states = [pod(f"well-{number}") for number in range(500 - broken)]
    own = [Failure("Http500", f"problem {number} {'x' * 300}", needs_person=False) for number in range(broken)]
    states += [pod(f"broken-{number}", _with(error)) for number, error in enumerate(own)]
    lines = text(*states, height=height).split("\n")
    assert len(lines) <= height
    assert all(len(line) <= 80 for line in lines)
    assert height == 6 or "rows are not shown" in "\n".join(lines)
    assert any(line.startswith("500 Pods in") for line in lines)
    assert height == 6 or (broken > 0) == any(line.startswith("broken") and "unavailable" in line for line in lines)


def _with(error: Failure) -> DaemonStatus:
    return ONE._replace(roles=(BROKEN._replace(name="default", error=error),))


def test_rows_are_coloured_by_their_state() -> None:
    shown = text(pod("well"), pod("broken", NONE), colours=True)
    assert "\x1b[1;31mbroken" in shown
    assert "\x1b" not in shown.partition("broken")[0].replace("\x1b[1;31m", "")
    assert "\x1b" not in text(pod("broken", NONE))


def test_hostile_names_and_texts_are_escaped() -> None:
    hostile = "\x1b[2J\u202e\nirsa-sidecar: error: not real"
    role = BROKEN._replace(name=hostile, role_arn=hostile, error=Failure(hostile, hostile, needs_person=False))
    states = (pod(hostile, ONE._replace(version=hostile, roles=(role, role))),)
    for shown in (text(*states), as_json(states, "lab"), text(pod("x", None)._replace(problem=hostile))):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\nirsa-sidecar" not in shown


def test_json_has_every_pod() -> None:
    document = json.loads(as_json([pod("cart"), LOST], "lab"))
    assert (document["schema_version"], document["context"], document["is_available"]) == (1, "lab", False)
    cart, lost = document["pods"]
    assert (cart["namespace"], cart["pod"], cart["state"], cart["problem"]) == ("shop", "cart", READY, None)
    assert cart["status"]["roles"][0]["state"] == READY
    assert (lost["state"], lost["status"], lost["next_step"]) == ("unknown", None, "Ask for the rule")
    assert "\n" not in as_json([pod("cart")], "lab", indent=None)


@pytest.mark.parametrize(
    ("states", "is_failure"),
    [
        ([], True),
        ([pod("well")], False),
        ([pod("well"), pod("old", ONE._replace(roles=(FAILED,)))], False),
        ([pod("well"), LOST], True),
        ([pod("broken", NONE)], True),
        ([pod("well"), pod("broken", NONE, is_terminating=True)], False),
    ],
)
def test_exit_status_follows_the_credentials(states: list[PodState], *, is_failure: bool) -> None:
    assert fails(states) == is_failure


def test_terminating_pod_is_mentioned() -> None:
    assert "cart: the Pod is terminating." in text(pod("cart", is_terminating=True))
