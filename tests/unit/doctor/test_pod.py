"""Test the examination of a Pod from outside, with one fault in each Pod."""

import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from sidecar.doctor.finding import Status
from sidecar.doctor.report import as_text
from sidecar.errors import ConfigurationError, KubernetesError
from tests.support.fakes.api_server import FakeApiServer
from tests.support.unloaded_modules import unload
from tests.unit.doctor.pod_document import POD, PODS, app, examine, sidecar, state, statuses, token_source

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


async def test_healthy_pod_passes_all_checks_from_outside(environ: dict[str, str]) -> None:
    report = await examine(environ)
    assert statuses(report) == {"inside.all": Status.SKIPPED}
    assert report.status is Status.OK
    assert {row.container for row in report.rows} == {None, "app"}
    inside = report.rows[-1].finding
    assert inside.next_step == ("Add --exec, or run: kubectl exec -n shop cart -c irsa-sidecar -- irsa-sidecar doctor")


Change = Callable[[dict[str, Any]], object]


def with_variable(container: Callable[[dict[str, Any]], dict[str, Any]], name: str, value: str) -> Change:
    def change(pod: dict[str, Any]) -> None:
        others = [item for item in container(pod)["env"] if item["name"] != name]
        container(pod)["env"] = [*others, {"name": name, "value": value}]

    return change


CRASHED = {"terminated": {"exitCode": 2, "reason": "Error", "message": "irsa-sidecar: AWS_REGION is not set: it must"}}

BROKEN: dict[str, tuple[Change, str, str]] = {
    "no sidecar, although the label requests one": (
        lambda pod: pod["spec"].pop("initContainers"),
        "pod.sidecar",
        "the Pod has the label irsa-sidecar.io/inject but no sidecar",
    ),
    "no sidecar, and a label of another value": (
        lambda pod: (
            pod["spec"].pop("initContainers"),
            pod["metadata"].update(labels={"irsa-sidecar.io/inject": "yes"}),
        ),
        "pod.sidecar",
        "the Pod's label irsa-sidecar.io/inject is 'yes', and the Pod has no sidecar",
    ),
    "no sidecar and no label": (
        lambda pod: (pod["spec"].pop("initContainers"), pod["metadata"].pop("labels")),
        "pod.sidecar",
        "the Pod has no irsa-sidecar",
    ),
    "no sidecar and a label that is almost right": (
        lambda pod: (
            pod["spec"].pop("initContainers"),
            pod["metadata"].update(labels={"app": "web", "irsa-sidecar.io/injected": "true"}),
        ),
        "pod.sidecar",
        "the Pod has no irsa-sidecar, and its label irsa-sidecar.io/injected is not read",
    ),
    "no sidecar and a label with a prefix that is almost right": (
        lambda pod: (
            pod["spec"].pop("initContainers"),
            pod["metadata"].update(labels={"irsa-sidecar.com/inject": "true"}),
        ),
        "pod.sidecar",
        "the Pod has no irsa-sidecar, and its label irsa-sidecar.com/inject is not read",
    ),
    "an image that cannot be pulled": (
        lambda pod: state(pod).update(state={"waiting": {"reason": "ImagePullBackOff"}}),
        "pod.running",
        "the sidecar does not run: ImagePullBackOff",
    ),
    "a sidecar that exits": (
        lambda pod: state(pod).update(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=CRASHED),
        "pod.running",
        "the sidecar does not run: CrashLoopBackOff; it exited with 2: irsa-sidecar: AWS_REGION is not set",
    ),
    "a sidecar without a status": (
        lambda pod: pod.pop("status"),
        "pod.running",
        "the sidecar does not run: not started yet",
    ),
    "no token mounted": (
        lambda pod: sidecar(pod)["volumeMounts"].pop(0),
        "pod.volume",
        "AWS_WEB_IDENTITY_TOKEN_FILE is /var/run/secrets/irsa-sidecar/token: no volume is mounted there",
    ),
    "a token by subPath": (
        lambda pod: sidecar(pod)["volumeMounts"][0].update(subPath="token"),
        "pod.volume",
        "the token's volume is mounted by subPath",
    ),
    "another path in the volume": (
        lambda pod: token_source(pod).update(path="jwt"),
        "pod.volume",
        "volume token has no service account token at",
    ),
    "a token without an audience": (
        lambda pod: token_source(pod).pop("audience"),
        "pod.volume",
        "requests a token without an audience",
    ),
    "no container with the address": (
        lambda pod: app(pod).pop("env"),
        "pod.applications",
        "no container has AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "static keys": (
        with_variable(app, "AWS_ACCESS_KEY_ID", "AKIA"),
        "environment.keys",
        "AWS_ACCESS_KEY_ID is set",
    ),
    "keys from a Secret": (
        lambda pod: app(pod)["env"].append({"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {}}}),
        "environment.keys",
        "AWS_ACCESS_KEY_ID is set",
    ),
    "injection by Amazon's webhook": (
        with_variable(app, "AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"),
        "environment.web_identity",
        "nearly every SDK uses a web identity before the sidecar's endpoint",
    ),
    "an address that is not loopback": (
        with_variable(app, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://irsa:4772/v1/credentials"),
        "endpoint.address",
        "is not on loopback",
    ),
    "another port": (
        with_variable(sidecar, "IRSA_SIDECAR_LISTEN", "127.0.0.1:4000"),
        "endpoint.port",
        "has port 4772, but the sidecar listens on 127.0.0.1:4000",
    ),
    "no secret": (
        lambda pod: app(pod)["env"].pop(1),
        "endpoint.secret",
        "the sidecar requires a secret",
    ),
    "a secret in another volume": (
        lambda pod: app(pod)["volumeMounts"][0].update(name="other"),
        "endpoint.secret",
        "is not in the volume of the sidecar's secret",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_first_failure_shows_the_error_of_a_pod(what: str, api: FakeApiServer, environ: dict[str, str]) -> None:
    change, check, words = BROKEN[what]
    pod = deepcopy(POD)
    change(pod)
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ, "shop/cart")
    first = report.first_failure
    text = as_text(report, width=1000, colours=False)
    assert first is not None, text
    assert f"{first.group}.{first.check}" == check, text
    assert words in first.finding.observed, text
    assert first.finding.next_step


WARNINGS: dict[str, tuple[Change, str]] = {
    "a restart": (lambda pod: state(pod).update(restartCount=3, lastState=CRASHED), "pod.running"),
    "another audience": (lambda pod: token_source(pod).update(audience="vault"), "pod.volume"),
    "the token mounted twice": (
        lambda pod: app(pod)["volumeMounts"].append({"name": "token", "mountPath": "/token"}),
        "pod.isolation",
    ),
    "EKS's volume in the application": (
        lambda pod: app(pod)["volumeMounts"].append({"name": "aws-iam-token", "mountPath": "/token"}),
        "pod.isolation",
    ),
    "a shared process namespace": (lambda pod: pod["spec"].update(shareProcessNamespace=True), "pod.isolation"),
    "the node's network": (lambda pod: pod["spec"].update(hostNetwork=True), "pod.network"),
}


@pytest.mark.parametrize("what", WARNINGS)
async def test_suspicious_pod_is_a_warning(what: str, api: FakeApiServer, environ: dict[str, str]) -> None:
    change, check = WARNINGS[what]
    pod = deepcopy(POD)
    change(pod)
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    assert {name for name, status in statuses(report).items() if status is Status.WARNING} == {check}
    assert report.first_failure is None


async def test_plain_sidecar_with_values_from_config_maps_passes(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    plain = pod["spec"]["initContainers"].pop()
    del plain["restartPolicy"]
    plain["name"] = "credentials"
    for item in (plain["env"][1], pod["spec"]["containers"][0]["env"][0]):
        item.pop("value")
        item["valueFrom"] = {"configMapKeyRef": {}}
    pod["spec"]["containers"].append(plain)
    pod["status"]["containerStatuses"].append({"name": "credentials", "state": {"running": {}}})
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    assert statuses(report) == {"pod.volume": Status.SKIPPED, "inside.all": Status.SKIPPED}


async def test_application_with_our_image_is_not_a_sidecar(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    app(pod)["image"] = "registry.example/irsa-sidecar:1-tools"
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    assert report.first_failure is None
    assert any(row.container == "app" for row in report.rows)


async def test_readiness_reason_is_read_through_the_api_server(
    api: FakeApiServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = api.respond
    reply_now: list[tuple[int, Any]] = []
    monkeypatch.setattr(
        api,
        "respond",
        lambda method, target, body: reply_now[0] if "proxy" in target else respond(method, target, body),
    )
    for reply, status, words in (
        ((503, b"role default: AccessDenied: Not authorized"), Status.FAILED, "AccessDenied: Not authorized"),
        ((503, {"message": "error trying to reach service: dial tcp"}), Status.SKIPPED, "error trying to reach"),
        ((403, {"message": "pods/proxy is forbidden"}), Status.SKIPPED, "pods/proxy is forbidden"),
        ((404, {"message": "not found"}), Status.SKIPPED, "the admin address does not respond"),
    ):
        reply_now[:] = [reply]
        (row,) = [row for row in (await examine(environ)).rows if row.check == "readiness"]
        assert row.finding.status is status
        assert words in row.finding.observed


async def test_event_explains_why_a_container_does_not_start(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    state(pod)["state"] = {"waiting": {"reason": "ContainerCreating"}}
    api.put(f"{PODS}/cart", pod)
    for number, message in enumerate(["old news", "MountVolume.SetUp failed\nfor volume token"]):
        event = {"type": "Warning", "reason": "FailedMount", "message": message, "lastTimestamp": f"2027-01-0{number}"}
        api.put(
            f"/api/v1/namespaces/shop/events/e{number}", {"kind": "Event", "metadata": {"name": f"e{number}"}, **event}
        )
    first = (await examine(environ)).first_failure
    assert first is not None
    assert first.finding.observed.endswith("FailedMount: MountVolume.SetUp failed for volume token")


async def test_missing_or_forbidden_pod_is_reported(api: FakeApiServer, environ: dict[str, str]) -> None:
    first = (await examine(environ, "other/cart")).first_failure
    assert first is not None
    assert first.finding.observed == "Pod cart does not exist in namespace other of context lab"
    api.faults.append((403, {"message": "pods is forbidden"}))
    with pytest.raises(KubernetesError, match="pods is forbidden"):
        await examine(environ)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "`aws eks update-kubeconfig --name CLUSTER`"), (403, "`kubectl auth can-i get pods -n shop --context lab`")],
)
async def test_denial_by_the_api_server_names_a_next_step(
    status: int, words: str, api: FakeApiServer, environ: dict[str, str]
) -> None:
    api.faults += [(status, {"message": "no"})] * 2
    with pytest.raises(KubernetesError) as raised:
        await examine(environ)
    assert words in str(raised.value)


async def test_missing_lightkube_is_named_in_the_error(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unload(monkeypatch, "lightkube", "sidecar.kubernetes")
    monkeypatch.setitem(sys.modules, "lightkube", None)
    with pytest.raises(ConfigurationError, match="needs the package lightkube"):
        await examine(environ)


INSTALLED: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "the cluster has neither the webhook nor the policies of irsa-sidecar"),
    "the webhook": (("mutatingwebhookconfigurations",), "the webhook did not process it"),
    "policies": (("mutatingadmissionpolicies",), "the policies did not process it"),
    "both": (
        ("mutatingwebhookconfigurations", "mutatingadmissionpolicies"),
        "the webhook and the policies did not process it",
    ),
}


WITHOUT_SIDECAR = {**POD, "spec": {**POD["spec"], "initContainers": []}}
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"


async def not_injected(api: FakeApiServer, environ: dict[str, str]) -> str:
    """Return the finding about the missing sidecar."""
    api.put(f"{PODS}/cart", deepcopy(WITHOUT_SIDECAR))
    (found,) = [row.finding for row in (await examine(environ)).rows if row.check == "sidecar"]
    return str(found.observed)


@pytest.mark.parametrize("installed", INSTALLED)
async def test_finding_names_the_installed_injector(
    api: FakeApiServer, environ: dict[str, str], installed: str
) -> None:
    kinds, problem = INSTALLED[installed]
    for kind in kinds:
        api.put(f"{CONFIGURATIONS}/{kind}/irsa-sidecar", {"metadata": {"name": "irsa-sidecar"}})
    assert problem in await not_injected(api, environ)


async def test_finding_names_both_injectors_if_one_is_forbidden(api: FakeApiServer, environ: dict[str, str]) -> None:
    api.broken[f"{CONFIGURATIONS}/mutatingwebhookconfigurations/irsa-sidecar"] = (403, {"message": "forbidden"})
    assert "the webhook or the policies did not process it" in await not_injected(api, environ)
