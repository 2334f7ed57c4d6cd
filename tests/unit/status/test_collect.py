"""Test that each daemon gets a request, that a Pod that does not respond is a result, and that requests are limited."""

import json
import os
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import KubernetesError
from sidecar.kubernetes.client import Kubernetes
from sidecar.status import collect
from sidecar.status.collect import PROXY_RULE, Scope, find_targets, read_states
from sidecar.status.read import MAX_BYTES
from sidecar.status.targets import PodState
from tests.support.fakes.api_server import FakeApiServer
from tests.unit.doctor.pod_document import POD, PODS, sidecar
from tests.unit.doctor.test_pod_inside import fake_kubectl
from tests.unit.status.conftest import READY, STATUS

SHOP, ALL = Scope("shop"), Scope("")


def ignore(_text: str) -> None:
    """Ignore the progress."""


async def states(kubernetes: Kubernetes, scope: Scope = SHOP, *, execs: bool = False) -> list[PodState]:
    return await read_states(kubernetes, find_targets(kubernetes, scope), execs=execs, progress=ignore)


async def only(kubernetes: Kubernetes, scope: Scope = SHOP, *, execs: bool = False) -> PodState:
    (state,) = await states(kubernetes, scope, execs=execs)
    return state


def put(api: FakeApiServer, namespace: str, name: str, response: tuple[int, bytes] | None = (200, READY)) -> None:
    pod = deepcopy(POD)
    pod["metadata"] |= {"name": name, "namespace": namespace}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    api.put(path, pod)
    if response is not None:
        api.proxied[f"{path}:4773/proxy/status"] = lambda: response


async def test_pods_of_a_namespace_are_read(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    put(api, "shop", "zebra")
    put(api, "other", "apple")
    found = await states(kubernetes)
    assert [state.target.pod for state in found] == ["cart", "zebra"]
    assert all(state.is_available for state in found)


async def test_pods_of_all_namespaces_are_listed_page_by_page(
    kubernetes: Kubernetes, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.kubernetes.client.PAGE_ITEMS", 2)
    for number in range(5):
        put(api, "other", f"pod-{number}")
    found = await states(kubernetes, ALL)
    assert [(state.target.namespace, state.target.pod) for state in found] == [
        *(("other", f"pod-{number}") for number in range(5)), ("shop", "cart"),
    ]  # fmt: skip
    assert sum("continue=" in target for _, target in api.requests) == 2


async def test_one_pod_needs_no_list(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    api.forbidden.add(("list", "pods"))
    assert (await only(kubernetes, Scope("shop", "cart"))).is_available


@pytest.mark.parametrize(("name", "words"), [("nope", "Pod nope does not exist"), ("bare", "doctor --pod shop/bare")])
def test_missing_pod_or_sidecar_is_an_error(kubernetes: Kubernetes, api: FakeApiServer, name: str, words: str) -> None:
    api.put(f"{PODS}/bare", {**POD, "metadata": {"name": "bare", "namespace": "shop"}, "spec": {"containers": []}})
    with pytest.raises(KubernetesError, match=words):
        find_targets(kubernetes, Scope("shop", name))


def test_missing_permission_to_list_is_an_error(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    api.forbidden.add(("list", "pods"))
    with pytest.raises(KubernetesError, match="can-i list pods -n shop"):
        find_targets(kubernetes, SHOP)


async def test_missing_permission_names_the_rule(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    put(api, "shop", "well")
    api.forbidden.add(("get", "pods/proxy"))
    found = await states(kubernetes)
    assert {state.problem for state in found} == {"you may not get pods/proxy in namespace shop"}
    assert all(PROXY_RULE in state.next_step and "--exec" in state.next_step for state in found)


UNREACHABLE = json.dumps({"message": "error trying to reach service: dial tcp 10.0.0.7:4773: i/o timeout"}).encode()
GONE = json.dumps({"message": 'pods "cart" not found'}).encode()

FAKED = json.dumps({"message": 'User "me" cannot get resource "pods/proxy" in API group ""'}).encode()

RESPONSES = {
    "a 403 of the Pod or of a proxy": (403, b"no", "status 403: no", ""),
    "a 403 like that of the API server": (403, FAKED, "you may not get pods/proxy", PROXY_RULE),
    "unreachable": (503, UNREACHABLE, "i/o timeout", "network policies"),
    "deleted": (404, GONE, "no longer exists", ""),
    "an old version": (404, b"The paths are /livez, /readyz and /metrics.\n", "has no /status", "Update the image"),
    "not JSON": (200, b"<html>", "not JSON", ""),
    "too long": (200, b"x" * 10 * 1024 * 1024, f"over {MAX_BYTES} bytes", ""),
    "a long error": (500, b"e" * 10 * 1024 * 1024, "status 500", ""),
    "an empty error": (500, b"", "status 500", ""),
    "a wrong form": (200, b'{"schema_version": 1, "roles": 5}', "form", ""),
    "a redirect": (302, b"", "status 302", ""),
    "no content": (204, b"", "status 204", ""),
}


@pytest.mark.parametrize("case", RESPONSES)
async def test_pod_with_another_response_is_a_result(kubernetes: Kubernetes, api: FakeApiServer, case: str) -> None:
    status, body, problem, next_step = RESPONSES[case]
    put(api, "shop", "well")
    api.proxied[STATUS] = lambda: (status, body)
    cart, well = await states(kubernetes)
    assert problem in cart.problem
    assert next_step in cart.next_step
    assert len(cart.problem) < 500
    assert (cart.status, cart.is_available, well.is_available) == (None, False, True)
    assert cart.target.is_terminating == (case == "deleted")


async def test_pod_that_does_not_respond_in_time_is_a_result(
    kubernetes: Kubernetes, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "POD_SECONDS", 0.2)
    ended = threading.Event()

    def hang() -> tuple[int, bytes]:
        ended.wait(60)
        return 200, READY

    api.proxied[STATUS] = hang
    put(api, "shop", "well")
    cart, well = await states(kubernetes)
    ended.set()
    assert cart.problem == "there was no complete response within 0 s"
    assert "network policies" in cart.next_step
    assert well.is_available


async def test_requests_at_the_same_time_are_limited(
    kubernetes: Kubernetes, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_REQUESTS", 3)
    running, most, lock, together = 0, 0, threading.Lock(), threading.Barrier(3)

    def respond() -> tuple[int, bytes]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)
        with lock:
            running -= 1
        return 200, READY

    for number in range(9):
        put(api, "crowd", f"pod-{number}")
    for path in [path for path in api.proxied if "crowd" in path]:
        api.proxied[path] = respond
    assert all(state.is_available for state in await states(kubernetes, Scope("crowd")))
    assert most == 3


async def test_pod_without_a_reachable_port_gets_no_request(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    pod: dict[str, Any] = deepcopy(POD)
    sidecar(pod)["env"].append({"name": "IRSA_SIDECAR_ADMIN_LISTEN", "value": "127.0.0.1:4773"})
    api.put(f"{PODS}/cart", pod)
    state = await only(kubernetes)
    assert "only reachable from the Pod" in state.problem
    assert "--exec" in state.next_step
    sidecar(pod)["env"][-1]["value"] = "off"
    api.put(f"{PODS}/cart", pod)
    assert "admin address is off" in (await only(kubernetes)).problem
    assert not [target for _, target in api.requests if "proxy" in target]


async def test_progress_counts_the_pods(kubernetes: Kubernetes) -> None:
    shown: list[str] = []
    await read_states(kubernetes, find_targets(kubernetes, SHOP), execs=False, progress=shown.append)
    assert shown == ["1 of 1 Pods", ""]


# With kubectl exec


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a fake kubectl, which is the first in PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path / "bin"


async def test_exec_runs_the_command_in_the_container(kubernetes: Kubernetes, kubectl: Path, tmp_path: Path) -> None:
    (tmp_path / "document").write_bytes(READY)
    fake_kubectl(kubectl, f'echo "$@" > {tmp_path}/arguments; cat {tmp_path}/document; exit 1')
    assert (await only(kubernetes, execs=True)).is_available
    assert (tmp_path / "arguments").read_text() == (
        "exec --context lab -n shop cart -c irsa-sidecar -- irsa-sidecar status --json\n"
    )


@pytest.mark.parametrize(
    ("script", "problem", "next_step"),
    [
        ("echo 'Error from server: no such container' >&2; exit 1", "no such container", ""),
        ("exit 1", "no status in that image", ""),
        (
            'echo \'Error from server (Forbidden): pods "cart" is forbidden: cannot create resource "pods/exec"\' >&2',
            "you may not create pods/exec in namespace shop",
            "resources: [pods/exec], verbs: [create]",
        ),
        ("echo nonsense", "not JSON", ""),
        ("yes", f"over {MAX_BYTES} bytes", ""),
        ("yes >&2", "kubectl exec failed: y", ""),
    ],
)
async def test_failed_exec_is_a_result(
    kubernetes: Kubernetes, kubectl: Path, script: str, problem: str, next_step: str
) -> None:
    fake_kubectl(kubectl, script)
    state = await only(kubernetes, execs=True)
    assert problem in state.problem
    assert next_step in state.next_step


async def test_exec_that_hangs_is_ended(kubernetes: Kubernetes, kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "EXEC_SECONDS", 0.2)
    fake_kubectl(kubectl, "exec sleep 600")
    assert "did not respond within 0 s" in (await only(kubernetes, execs=True)).problem


async def test_missing_kubectl_is_a_result(kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    state = await only(kubernetes, execs=True)
    assert "kubectl is not in PATH" in state.problem
    assert state.next_step == "Install kubectl"
