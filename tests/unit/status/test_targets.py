"""Test which Pods get a request, and at which port."""

from copy import deepcopy
from typing import Any

import pytest

from sidecar.status.targets import Target, can_respond, exec_command, proxy_path, target_of
from tests.unit.doctor.pod_document import POD, sidecar, state


def pod(**container: Any) -> dict[str, Any]:
    document = deepcopy(POD)
    sidecar(document).update(container)
    return document


def target(document: dict[str, Any]) -> Target:
    found = target_of(document)
    assert found is not None
    return found


def variable(value: str) -> list[dict[str, str]]:
    return [{"name": "IRSA_SIDECAR_ADMIN_LISTEN", "value": value}]


FROM_A_SECRET = [{"name": "IRSA_SIDECAR_ADMIN_LISTEN", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]
PORTS = [{"name": "http", "containerPort": 80}, {"name": "irsa-sidecar", "containerPort": 9100}]

ADDRESSES: dict[str, tuple[dict[str, Any], tuple[str, int]]] = {
    "the default": ({}, ("0.0.0.0", 4773)),
    "a variable": ({"env": variable(":9090")}, ("0.0.0.0", 9090)),
    "an IPv6 address": ({"env": variable("[::]:9090")}, ("::", 9090)),
    "a flag": ({"args": ["run", "--admin-listen", ":9091"], "env": variable(":9090")}, ("0.0.0.0", 9091)),
    "a flag with =": ({"args": ["run", "--admin-listen=:9092"]}, ("0.0.0.0", 9092)),
    "the last of two flags": ({"args": ["--admin-listen", ":1", "--admin-listen=:2"]}, ("0.0.0.0", 2)),
    "a flag of the command": ({"command": ["irsa-sidecar", "run", "--admin-listen=:9093"]}, ("0.0.0.0", 9093)),
    "a flag without a value": ({"args": ["run", "--admin-listen"]}, ("0.0.0.0", 4773)),
    "an empty variable": ({"env": variable("")}, ("0.0.0.0", 4773)),
    "a value from elsewhere": ({"env": FROM_A_SECRET, "ports": PORTS}, ("0.0.0.0", 9100)),
    "an invalid port": ({"env": FROM_A_SECRET, "ports": [{"name": "irsa-sidecar", "containerPort": "x"}, 5]},
                        ("0.0.0.0", 4773)),
}  # fmt: skip


@pytest.mark.parametrize("case", ADDRESSES)
def test_admin_address_is_that_of_the_container(case: str) -> None:
    container, address = ADDRESSES[case]
    found = target(pod(**container))
    assert found.address == address
    assert proxy_path(found) == f"/api/v1/namespaces/shop/pods/cart:{address[1]}/proxy/status"
    assert can_respond(found, execs=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("off", "its admin address is off"),
        ("nonsense", "not HOST:PORT"),
        (":0", "the kernel chooses the port"),
        ("$(HOST):4773", "not an IP address"),
    ],
)
def test_pod_without_an_admin_port_gets_no_request(value: str, words: str) -> None:
    found = target(pod(env=variable(value)))
    assert words in found.problem
    assert not can_respond(found, execs=False)
    assert not can_respond(found, execs=True)


def test_loopback_needs_exec() -> None:
    found = target(pod(env=variable("127.0.0.1:4773")))
    assert not found.problem
    assert not can_respond(found, execs=False)
    assert can_respond(found, execs=True)


@pytest.mark.parametrize(
    ("container", "flags"), [({}, []), ({"args": ["--admin-listen=:9"]}, ["--admin-listen", ":9"])]
)
def test_exec_passes_the_flag_of_the_daemon(container: dict[str, Any], flags: list[str]) -> None:
    assert exec_command(target(pod(**container))) == ["irsa-sidecar", "status", "--json", *flags]


def test_only_unfinished_pods_with_a_sidecar_are_targets() -> None:
    finished, other = deepcopy(POD), deepcopy(POD)
    finished["status"]["phase"] = "Succeeded"
    other["spec"]["initContainers"] = []
    assert target_of(finished) is None
    assert target_of(other) is None
    other["spec"]["containers"].append({"name": "aws", "image": "registry.example/irsa-sidecar@sha256:0"})
    other["status"]["containerStatuses"].append({"name": "aws", "state": {"running": {}}})
    assert target(other).container == "aws"


@pytest.mark.parametrize("document", [{}, {"metadata": 5, "spec": 5, "status": []}, {"spec": {"containers": [5]}}])
def test_damaged_document_is_ignored(document: dict[str, Any]) -> None:
    assert target_of(document) is None


CRASHED = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out of\nmemory"}}

STATES: dict[str, dict[str, Any]] = {
    "the sidecar does not run: not started yet": {"state": {}},
    "the sidecar does not run: ImagePullBackOff": {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
    "the sidecar does not run: CrashLoopBackOff. Its last exit status was 137 (OOMKilled): out of memory": {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED,
    },
    "the sidecar does not run: Error. Its last exit status was 2": {
        "state": {"terminated": {"exitCode": 2, "reason": "Error"}},
    },
}  # fmt: skip


@pytest.mark.parametrize("problem", STATES)
def test_container_that_does_not_run_gets_no_request(problem: str) -> None:
    document = deepcopy(POD)
    state(document).update(STATES[problem])
    if not STATES[problem]["state"]:
        state(document)["state"] = {}
    found = target(document)
    assert found.problem == problem
    assert not can_respond(found, execs=True)


def test_restarts_and_termination_are_known() -> None:
    document = deepcopy(POD)
    state(document).update(restartCount=5, lastState=CRASHED)
    document["metadata"]["deletionTimestamp"] = "2026-11-29T10:00:00Z"
    found = target(document)
    assert (found.restarts, found.is_terminating, found.problem) == (5, True, "")
    assert "137 (OOMKilled)" in found.last_exit
