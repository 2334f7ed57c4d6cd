"""A Pod examined from outside: broken in one way each, and with the findings of kubectl exec."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from sidecar.doctor import from_pod
from sidecar.doctor.finding import Status
from sidecar.doctor.probes.pod import parse_pod_name
from sidecar.doctor.report import Report, as_text
from sidecar.errors import ConfigurationError, KubernetesError
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.doctor.set_up import set_up

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

PODS = "/api/v1/namespaces/shop/pods"
READY = f"{PODS}/cart:4773/proxy/readyz"

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "cart", "namespace": "shop", "labels": {"irsa-sidecar.io/inject": "true"}},
    "spec": {
        "serviceAccountName": "cart",
        "initContainers": [
            {
                "name": "irsa-sidecar",
                "image": "registry.example/irsa-sidecar:1",
                "restartPolicy": "Always",
                "env": [
                    {"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/cart"},
                    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/irsa-sidecar/token"},
                    {"name": "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE", "value": "/run/irsa-sidecar/token"},
                ],
                "volumeMounts": [
                    {"name": "token", "mountPath": "/var/run/secrets/irsa-sidecar", "readOnly": True},
                    {"name": "authorization", "mountPath": "/run/irsa-sidecar"},
                ],
            }
        ],
        "containers": [
            {
                "name": "app",
                "image": "cart:1",
                "env": [
                    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://127.0.0.1:4772/v1/credentials"},
                    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/secret/token"},
                    {"name": "AWS_REGION", "value": "eu-west-1"},
                    {"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"},
                    {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
                ],
                "volumeMounts": [{"name": "authorization", "mountPath": "/secret", "readOnly": True}],
            },
            {"name": "proxy", "image": "envoy:1"},
        ],
        "volumes": [
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": "sts.amazonaws.com",
                                "expirationSeconds": 86400,
                                "path": "token",
                            }
                        }
                    ]
                },
            },
            {"name": "authorization", "emptyDir": {"medium": "Memory"}},
        ],
    },
    "status": {
        "phase": "Running",
        "initContainerStatuses": [{"name": "irsa-sidecar", "restartCount": 0, "state": {"running": {}}}],
        "containerStatuses": [{"name": "app", "state": {"running": {}}}],
    },
}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fake.put(f"{PODS}/cart", POD)
        fake.documents[READY] = b"ok"
        yield fake


@pytest.fixture
def environ(api: FakeApiServer, tmp_path: Path, no_proxies: None) -> dict[str, str]:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    return {"KUBECONFIG": str(tmp_path / "kubeconfig")}


async def examine(environ: dict[str, str], where: str = "cart", *, execs: bool = False) -> Report:
    return await from_pod.examine(environ, where, None, execs=execs)


def statuses(report: Report) -> dict[str, Status]:
    return {
        f"{row.group}.{row.check}": row.finding.status for row in report.rows if row.finding.status is not Status.OK
    }


async def test_healthy_pod_passes_except_for_the_checks_inside(environ: dict[str, str]) -> None:
    report = await examine(environ)
    assert statuses(report) == {"inside.all": Status.LEFT_OUT}
    assert report.status is Status.OK
    assert {row.container for row in report.rows} == {None, "app"}
    inside = report.rows[-1].finding
    assert inside.next_step == ("Add --exec, or run: kubectl exec -n shop cart -c irsa-sidecar -- irsa-sidecar doctor")


Change = Callable[[dict[str, Any]], object]


def sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["initContainers"][0]
    return found


def app(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def state(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["status"]["initContainerStatuses"][0]
    return found


def token_source(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    return found


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
        "it does not run: ImagePullBackOff",
    ),
    "a sidecar that exits": (
        lambda pod: state(pod).update(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=CRASHED),
        "pod.running",
        "it does not run: CrashLoopBackOff; it exited with 2: irsa-sidecar: AWS_REGION is not set",
    ),
    "a sidecar without a status": (
        lambda pod: pod.pop("status"),
        "pod.running",
        "it does not run: not started yet",
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
    "injection by the EKS webhook": (
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
async def test_first_failure_names_the_error_of_a_pod(what: str, api: FakeApiServer, environ: dict[str, str]) -> None:
    change, check, words = BROKEN[what]
    pod = deepcopy(POD)
    change(pod)
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ, "shop/cart")
    first = report.first_failure
    text = as_text(report, width=1000, colours=False)
    assert first is not None, text
    assert f"{first.group}.{first.check}" == check, text
    assert words in first.finding.seen, text
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


async def test_ordinary_container_and_hidden_values_are_accepted(api: FakeApiServer, environ: dict[str, str]) -> None:
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
    assert statuses(report) == {"pod.volume": Status.LEFT_OUT, "inside.all": Status.LEFT_OUT}


async def test_application_with_our_image_is_not_the_sidecar(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    app(pod)["image"] = "registry.example/irsa-sidecar:1-tools"
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    assert report.first_failure is None
    assert any(row.container == "app" for row in report.rows)


async def test_readiness_reason_comes_through_the_api_server(
    api: FakeApiServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = api.answer
    reply_now: list[tuple[int, Any]] = []
    monkeypatch.setattr(
        api, "answer", lambda method, target, body: reply_now[0] if "proxy" in target else answer(method, target, body)
    )
    for reply, status, words in (
        ((503, b"role default: AccessDenied: Not authorized"), Status.WRONG, "AccessDenied: Not authorized"),
        ((503, {"message": "error trying to reach service: dial tcp"}), Status.LEFT_OUT, "error trying to reach"),
        ((403, {"message": "pods/proxy is forbidden"}), Status.LEFT_OUT, "pods/proxy is forbidden"),
        ((404, {"message": "not found"}), Status.LEFT_OUT, "the admin address does not respond"),
    ):
        reply_now[:] = [reply]
        (row,) = [row for row in (await examine(environ)).rows if row.check == "readiness"]
        assert row.finding.status is status
        assert words in row.finding.seen


async def test_event_shows_why_a_container_does_not_start(api: FakeApiServer, environ: dict[str, str]) -> None:
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
    assert first.finding.seen.endswith("FailedMount: MountVolume.SetUp failed for volume token")


async def test_missing_or_forbidden_pod_is_reported(api: FakeApiServer, environ: dict[str, str]) -> None:
    first = (await examine(environ, "other/cart")).first_failure
    assert first is not None
    assert first.finding.seen == "Pod cart does not exist in namespace other of context lab"
    api.faults.append((403, {"message": "pods is forbidden"}))
    with pytest.raises(KubernetesError, match="pods is forbidden"):
        await examine(environ)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "`aws eks update-kubeconfig --name CLUSTER`"), (403, "`kubectl auth can-i get pods -n shop --context lab`")],
)
async def test_denial_by_the_api_server_has_a_next_step(
    status: int, words: str, api: FakeApiServer, environ: dict[str, str]
) -> None:
    api.faults += [(status, {"message": "no"})] * 2
    with pytest.raises(KubernetesError) as raised:
        await examine(environ)
    assert words in str(raised.value)


async def test_missing_lightkube_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("lightkube", "sidecar.kubernetes"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightkube", None)
    with pytest.raises(ConfigurationError, match="needs the package lightkube"):
        await examine(environ)


# Inside the Pod


def fake_kubectl(directory: Path, script: str) -> None:
    """Write an executable `kubectl` that runs `script`."""
    directory.mkdir()
    (directory / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "kubectl").chmod(0o755)


async def test_findings_inside_follow_those_from_the_api(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, run = tmp_path / "arguments", f'. {tmp_path}/environ; exec {sys.executable} -m sidecar "$@" --no-imds'
    script = f'echo "$@" > {arguments}; while [ "$1" != -- ]; do shift; done; shift 2; {run}'
    fake_kubectl(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    async with set_up(tmp_path) as at:
        inside = at.but(AWS_ROLE_ARN=at.role("refusing"))
        (tmp_path / "environ").write_text("".join(f"export {name}='{value}'\n" for name, value in inside.items()))
        report = await examine(environ, execs=True)
    assert arguments.read_text() == "exec -n shop cart -c irsa-sidecar -- irsa-sidecar doctor --json\n"
    assert report.rows[0].group == "pod"
    first = report.first_failure
    assert first is not None
    assert (first.group, first.check) == ("exchange", "granted")
    assert "sub is system:serviceaccount:default:app" in first.finding.seen


async def test_readiness_takes_the_next_step_from_inside(
    tmp_path: Path, api: FakeApiServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = api.answer
    unready: tuple[int, Any] = (503, b"default: AccessDenied: Not authorized")
    monkeypatch.setattr(
        api, "answer", lambda method, target, body: unready if "proxy" in target else answer(method, target, body)
    )
    cause = {
        "group": "exchange",
        "check": "granted",
        "status": "failed",
        "observed": "no",
        "next_step": "Let it allow this",
    }
    document = json.dumps({"version": 1, "checks": [cause]})
    fake_kubectl(tmp_path / "bin", f"echo '{document}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    first = (await examine(environ, execs=True)).first_failure
    assert first is not None
    assert (first.check, first.finding.next_step) == ("readiness", "Let it allow this")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Error from server (Forbidden): pods/exec is forbidden' >&2; exit 1", "pods/exec is forbidden"),
        ("exit 1", "no doctor in that image"),
        (f"echo '{json.dumps({'version': 99})}'", "version 99 of its document"),
    ],
)
async def test_failed_kubectl_exec_shows_the_command(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    fake_kubectl(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    finding = (await examine(environ, execs=True)).rows[-1].finding
    assert finding.status is Status.LEFT_OUT
    assert words in finding.seen
    assert finding.next_step.startswith("Run it yourself: kubectl exec -n shop cart")


async def test_missing_kubectl_skips_the_checks_inside(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "kubectl is not in PATH" in (await examine(environ, execs=True)).rows[-1].finding.seen


async def test_command_examines_a_pod(environ: dict[str, str]) -> None:
    async def doctor(*arguments: str) -> Any:
        command = [sys.executable, "-m", "sidecar", "doctor", *arguments]
        return await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True, check=False)

    done = await doctor("--pod", "shop/cart", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["side"], document["sts_calls_per_day"]) == (0, "pod", {})
    done = await doctor("--exec")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--context and --exec are for a Pod" in done.stderr


@pytest.mark.parametrize(
    "where",
    ["", "a/b/c", "/cart", "shop/", "Cart", "shop/../cart", "cart\n", "shop/cart?x=1", "a" * 254, "-cart", "sh op/cart",
     "cart\x1b[2J"],
)  # fmt: skip
def test_invalid_pod_names_are_rejected(where: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME or NAMESPACE/NAME"):
        parse_pod_name(where)


@pytest.mark.parametrize(
    ("where", "parsed"),
    [
        ("cart", (None, "cart")),
        ("shop/cart-7d4b9c-x2x9z", ("shop", "cart-7d4b9c-x2x9z")),
        ("shop/ip-10-0-0-1.ec2.internal", ("shop", "ip-10-0-0-1.ec2.internal")),
    ],
)
def test_pod_names_are_parsed(where: str, parsed: tuple[str | None, str]) -> None:
    assert parse_pod_name(where) == parsed


GRACE_PERIODS = [
    # grace period, token lifetime, session duration, is it a warning
    (None, 86400, None, False),
    (20880, 86400, None, False),  # 86400 / 5 + 3600
    (20881, 86400, None, True),
    (4320, 3600, "3600", False),
    (4321, 3600, "3600", True),
    (5000, 3600, "43200", False),
    (5000, 3600, "max", True),
    (86400, None, "not a number", True),
]


@pytest.mark.parametrize("row", GRACE_PERIODS)
async def test_grace_period_beyond_the_credentials_is_a_warning(
    api: FakeApiServer, environ: dict[str, str], row: tuple[int | None, int | None, str | None, bool]
) -> None:
    grace, token, duration, warns = row
    pod = deepcopy(POD)
    pod["spec"]["terminationGracePeriodSeconds"] = grace
    token_source(pod)["expirationSeconds"] = token
    sidecar(pod)["env"].append({"name": "IRSA_SIDECAR_DURATION", "value": duration})
    api.put(f"{PODS}/cart", pod)
    found = statuses(await examine(environ))
    assert (found.get("pod.termination") is Status.WARNING) is warns


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ((None, None, None), "app has no runAsUser and may run as 65532; proxy has no runAsUser"),
        ((None, 1000, None), ": proxy has no runAsUser and may run as 65532"),
        ((None, 1000, 65532), ": proxy runs as 65532"),
        ((65532, None, 7), ": app runs as 65532"),
        ((1000, None, None), ": app runs as 1000; proxy runs as 1000"),
        ((None, 1, 0), ": proxy runs as root and can become 65532"),
        ((None, 1, 2), ""),
        ((1000, 1, 2), ""),
    ],
)
async def test_isolation_follows_users_in_a_shared_namespace(
    api: FakeApiServer,
    environ: dict[str, str],
    users: tuple[int | None, int | None, int | None],
    words: str,
) -> None:
    """
    Compare the users of the Pod, `app` and `proxy`.

    The sidecar of this Pod sets no user, so it runs as the Pod's user or else the image's.
    """
    pod = deepcopy(POD)
    pod["spec"] |= {"shareProcessNamespace": True, "securityContext": {"runAsUser": users[0]}}
    for container, user in zip(pod["spec"]["containers"], users[1:], strict=True):
        container["securityContext"] = {"runAsUser": user}
    api.put(f"{PODS}/cart", pod)
    report = await examine(environ)
    (row,) = [row for row in report.rows if row.check == "isolation"]
    assert row.finding.status is (Status.WARNING if words else Status.OK)
    assert words in row.finding.seen


EMPTY_VALUES: tuple[dict[str, Any], ...] = {"value": ""}, {}, {"valueFrom": None}


@pytest.mark.parametrize("empty", EMPTY_VALUES)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE", "HTTP_PROXY"])
async def test_empty_variable_of_a_container_passes(
    api: FakeApiServer, environ: dict[str, str], name: str, empty: dict[str, Any]
) -> None:
    pod = deepcopy(POD)
    app(pod)["env"].append({"name": name, **empty})
    api.put(f"{PODS}/cart", pod)
    assert statuses(await examine(environ)) == {"inside.all": Status.LEFT_OUT}


@pytest.mark.parametrize("empty", EMPTY_VALUES)
@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "environment.web_identity"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "environment.relative_uri"),
    ],
)
async def test_empty_variable_that_an_sdk_reads_is_a_warning(
    api: FakeApiServer, environ: dict[str, str], name: str, check: str, empty: dict[str, Any]
) -> None:
    pod = deepcopy(POD)
    app(pod)["env"].append({"name": name, **empty})
    api.put(f"{PODS}/cart", pod)
    assert statuses(await examine(environ)) == {check: Status.WARNING, "inside.all": Status.LEFT_OUT}


async def test_no_proxy_from_a_config_map_is_a_warning(api: FakeApiServer, environ: dict[str, str]) -> None:
    pod = deepcopy(POD)
    source = {"valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "x"}}}
    app(pod)["env"] += [{"name": "HTTP_PROXY", **source}, {"name": "NO_PROXY", **source}]
    api.put(f"{PODS}/cart", pod)
    (row,) = [row for row in (await examine(environ)).rows if row.check == "no_proxy"]
    assert row.finding.status is Status.WARNING
    assert "does not show whether NO_PROXY includes 127.0.0.1" in row.finding.seen
