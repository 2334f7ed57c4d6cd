"""Test that a Pod with wrong types or names is at most a row with a reason, and never ends the report."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from sidecar import cli
from sidecar.kubernetes.client import Kubernetes
from sidecar.status.collect import Scope, find_targets, read_states
from sidecar.status.targets import PodState, target_of
from tests.support.fakes.api_server import FakeApiServer
from tests.unit.doctor.pod_document import POD, PODS, sidecar, state
from tests.unit.doctor.test_pod_inside import fake_kubectl

WRONG: list[Any] = [None, -5, "\x1b[31m\x00\ud800", [[]], {"a": [1]}]
"""Values of every type of JSON, which replace each field of a Pod."""

FULL: dict[str, Any] = deepcopy(POD)
sidecar(FULL).update(
    args=["run", "--admin-listen", ":4773"],
    command=["irsa-sidecar"],
    ports=[{"name": "irsa-sidecar", "containerPort": 4773}],
)
FULL["metadata"]["deletionTimestamp"] = "2026-11-29T10:00:00Z"
FULL["status"]["phase"] = "Running"
state(FULL).update(
    restartCount=1,
    state={"waiting": {"reason": "CrashLoopBackOff"}, "terminated": {"reason": "Error", "exitCode": 1}},
    lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out"}},
)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each field in the document."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (key,)
        yield from ((key, *rest) for rest in places(member))


def malformed() -> Iterator[dict[str, Any]]:
    for path in places(FULL):
        for value in WRONG:
            document = deepcopy(FULL)
            at: Any = document
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
            yield document


def answer(api: FakeApiServer, pods: list[Any]) -> None:
    api.broken["/api/v1/pods"] = (200, {"metadata": {"resourceVersion": "1"}, "items": pods})


async def read(kubernetes: Kubernetes, *, execs: bool) -> list[PodState]:
    targets = find_targets(kubernetes, Scope(""))
    return await read_states(kubernetes, targets, execs=execs, progress=lambda _text: None)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_malformed_pods_do_not_end_the_command(
    api: FakeApiServer,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
) -> None:
    pods: list[Any] = [5, None, "x", [], {}, POD, *malformed()]
    answer(api, pods)
    monkeypatch.setenv("KUBECONFIG", environ["KUBECONFIG"])
    assert cli.main(["status", "--all", *form]) == 1
    printed = capsys.readouterr().out
    assert printed.isascii() or not form
    assert "\x1b" not in printed
    if form:
        found = json.loads(printed)["pods"]
        assert len(found) > len(pods) / 2
        assert any(pod["state"] == "ready" for pod in found)
    else:
        assert "ready" in printed
        assert "returned a Pod with an invalid name" in printed


NAMES: list[Any] = ["a/../../../secrets", "..", "../..", "a\x1b[31m", "a%2f..", "A", "-n", "a?x=1", None, []]


async def test_invalid_name_gets_no_request(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    pods = [deepcopy(POD) for _ in range(2 * len(NAMES))]
    for at, pod in enumerate(pods):
        pod["metadata"]["name" if at % 2 else "namespace"] = NAMES[at // 2]
    answer(api, [*pods, POD])
    for execs in (False, True):
        problems = [found.target.problem for found in await read(kubernetes, execs=execs)]
        assert sum(text == "the API server returned a Pod with an invalid name" for text in problems) == len(pods)
    assert {path for _, path in api.requests} == {"/api/v1/pods?limit=500", f"{PODS}/cart:4773/proxy/status"}


def test_phase_of_a_wrong_type_is_not_finished() -> None:
    phases: list[Any] = [[], {}, ["Failed"]]
    for phase in phases:
        assert target_of({**POD, "status": {**POD["status"], "phase": phase}}) is not None


async def test_flag_that_kubectl_cannot_get_is_a_result(
    kubernetes: Kubernetes, api: FakeApiServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_kubectl(tmp_path / "bin", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    pod = deepcopy(POD)
    sidecar(pod)["args"] = [f"--admin-listen=:4773{' ' * 100}\x00"]
    answer(api, [pod])
    (found,) = await read(kubernetes, execs=True)
    assert "kubectl cannot be started" in found.problem
