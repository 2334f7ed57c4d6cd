"""Test the sidecar in Pods of a real kubelet with the shipped manifests: start, operation, failure and stop."""

import json
import subprocess
from typing import Any

import pytest

from sidecar.injection.inject import inject
from sidecar.injection.settings import Settings
from tests.cluster.applications import IMAGE, authored_spec, pod, prepare, set_variable
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace, container_state
from tests.cluster.sts import REGION, ClusterSts, role_arn
from tests.support.manifests import K8S, documents, pods

EXAMPLE, BEFORE_1_29, ROLES = "pod/example.yaml", "pod/before-1.29.yaml", "pod/roles.yaml"

REPORT = "report(who_am_i())\nuntil_stopped()"


def session_arn(namespace: Namespace, pod_name: str, role: str = "app") -> str:
    return f"arn:aws:sts::111122223333:assumed-role/{role}/{namespace.name}.{pod_name}"


def is_running(found: dict[str, Any], container: str = "app") -> bool:
    return "running" in container_state(found, container).get("state", {})


@pytest.mark.core
@pytest.mark.parametrize("file", [EXAMPLE, BEFORE_1_29])
def test_sdk_has_credentials_from_the_kubelets_token(
    node: Cluster, namespace: Namespace, sts: ClusterSts, file: str
) -> None:
    namespace.apply(pod(file, "web", sts, app=REPORT))
    assert session_arn(namespace, "web") in namespace.logged("web", "app", "arn:aws")
    (granted,) = sts.events("exchange_granted", arn=session_arn(namespace, "web"))
    assert granted["subject"] == f"system:serviceaccount:{namespace.name}:app"


@pytest.mark.core
def test_application_starts_after_the_first_credentials(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    namespace.apply(pod(EXAMPLE, "web", sts, app=REPORT))
    namespace.wait_for("web", is_running)
    refreshed = _event(namespace, "web", "credentials_refreshed")
    assert refreshed["time"] < container_state(namespace.pod("web"), "app")["state"]["running"]["startedAt"]


@pytest.mark.core
def test_untrusted_role_delays_the_application_with_an_event(
    node: Cluster, namespace: Namespace, sts: ClusterSts
) -> None:
    web = pod(EXAMPLE, "web", sts, app=REPORT)
    set_variable(web, "AWS_ROLE_ARN", role_arn("foreign"))
    namespace.apply(web)
    namespace.logged("web", "irsa-sidecar", "refresh_failed")
    found = namespace.wait_for("web", lambda _: "AccessDenied" in _events(namespace, "web"))
    assert not is_running(found)
    assert container_state(found, "app")["state"]["waiting"]["reason"] == "PodInitializing"


@pytest.mark.core
def test_application_waits_for_an_injected_plain_sidecar(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    """
    Inject as for Kubernetes before 1.29.

    This kubelet also supports native sidecars, but it starts plain containers in the same order as old kubelets.
    """
    namespace.apply(_injected_plainly(sts, "web", role="app"))
    assert session_arn(namespace, "web") in namespace.logged("web", "app", "arn:aws")
    refreshed = _event(namespace, "web", "credentials_refreshed")
    found = namespace.pod("web")
    assert refreshed["time"] < container_state(found, "app")["state"]["running"]["startedAt"]
    assert [container["name"] for container in found["spec"]["containers"]] == ["irsa-sidecar", "app"]


def test_plain_sidecar_without_credentials_delays_the_app(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    namespace.apply(_injected_plainly(sts, "web", role="foreign"))

    def is_refused(_: dict[str, Any]) -> bool:
        return any(namespace.name in refused["reason"] for refused in sts.events("request_rejected"))

    found = namespace.wait_for("web", is_refused)
    assert container_state(found, "app")["state"] == {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.core
def test_restart_of_the_sidecar_does_not_affect_the_application(
    node: Cluster, namespace: Namespace, sts: ClusterSts
) -> None:
    program = """
client = boto3.client("sts")
def stop(*_):
    report("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
count = 0
while True:
    client.get_caller_identity()
    count += 1
    report(f"call {count}")
    time.sleep(0.2)
"""
    namespace.apply(pod(EXAMPLE, "web", sts, app=program))
    namespace.logged("web", "app", "call 3\n")
    found = namespace.kill("web", "irsa-sidecar")
    calls = namespace.logs("web", "app").count("call ")
    namespace.logged("web", "app", f"call {calls + 3}\n")
    assert container_state(found, "irsa-sidecar")["restartCount"] == 1
    assert container_state(namespace.pod("web"), "app")["restartCount"] == 0
    assert "credentials_restored" in namespace.logs("web", "irsa-sidecar")
    assert len(sts.events("exchange_granted", arn=session_arn(namespace, "web"))) == 1


@pytest.mark.core
def test_job_completes_and_both_containers_exit_with_zero(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    _apply_jobs(node, namespace, sts)
    namespace.kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=120s")
    _assert_both_ended_with_0(namespace, "job-name=once")


def test_job_of_a_cronjob_completes(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    _apply_jobs(node, namespace, sts)
    namespace.kubectl("create", "job", "--from=cronjob/nightly", "tonight")
    namespace.kubectl("wait", "--for=condition=Complete", "job/tonight", "--timeout=120s")
    _assert_both_ended_with_0(namespace, "job-name=tonight")


@pytest.mark.core
@pytest.mark.parametrize("file", [EXAMPLE, BEFORE_1_29])
def test_stopping_application_still_gets_credentials(
    node: Cluster, namespace: Namespace, sts: ClusterSts, file: str
) -> None:
    """
    Request credentials in the preStop hook and after SIGTERM, because open connections and queues need them.

    A plain sidecar serves for 30 s instead of 10 s, because the two requests take longer on a busy machine.
    """
    web = pod(file, "web", sts, app="until_stopped(lambda: (time.sleep(3), report('at the end', who_am_i())))")
    web["spec"]["terminationGracePeriodSeconds"] = 60
    for variable in (each for container in web["spec"]["containers"] for each in container["env"]):
        if variable["name"] == "IRSA_SIDECAR_DRAIN_SECONDS":
            variable["value"] = "30"
    (app,) = [container for container in web["spec"]["containers"] if container["name"] == "app"]
    hook = app["args"][0].partition("def until")[0] + 'print("in the hook", who_am_i(), file=open("/proc/1/fd/1", "w"))'
    app["lifecycle"] = {"preStop": {"exec": {"command": ["python", "-c", f"import time; time.sleep(2)\n{hook}"]}}}
    namespace.apply(web)
    namespace.wait_for("web", is_running)
    logs = namespace.command("logs", "--follow", "web", "--container=app")
    following = subprocess.Popen(logs, stdout=subprocess.PIPE, text=True)
    namespace.kubectl("delete", "pod", "web", "--timeout=60s")
    output, _ = following.communicate()
    assert f"in the hook {session_arn(namespace, 'web')}" in output
    assert f"at the end {session_arn(namespace, 'web')}" in output


def test_each_container_has_only_its_own_role(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    program = """
report(who_am_i())
def status_of(path, **headers):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:4772/v1/credentials{path}", headers=headers)
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
own = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
with_secret = [status_of(path, Authorization=own) for path in ("", "/reporting")]
report("statuses", with_secret, status_of(""), os.listdir("/run/irsa-sidecar"))
until_stopped()
"""
    namespace.apply(pod(ROLES, "web", sts, app=program, reporting=program))
    output = namespace.logged("web", "app", "statuses")
    assert session_arn(namespace, "web") in output
    assert "statuses [200, 403] 401 ['default']" in output
    output = namespace.logged("web", "reporting", "statuses")
    assert session_arn(namespace, "web", role="reporting") in output
    assert "statuses [403, 200] 401 ['reporting']" in output


@pytest.mark.core
def test_each_container_has_only_the_token_that_it_needs(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    """Use a Pod that mounts the API server's token."""
    find = "print([os.path.join(path, name) for path, _, names in os.walk('/var/run/secrets') for name in names])"
    web = pod(EXAMPLE, "web", sts, app="until_stopped()")
    web["spec"]["automountServiceAccountToken"] = True
    namespace.apply(web)
    namespace.wait_for("web", is_running)
    found = {
        container: namespace.kubectl(
            "exec", "web", f"--container={container}", "--", "python", "-c", f"import os; {find}"
        ).stdout
        for container in ("app", "irsa-sidecar")
    }
    assert "irsa-sidecar/token" not in found["app"]
    assert "kubernetes.io/serviceaccount/token" in found["app"]
    assert "irsa-sidecar/token" in found["irsa-sidecar"]
    assert "kubernetes.io" not in found["irsa-sidecar"]


def test_sidecar_needs_at_most_its_memory_request(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    namespace.apply(pod(EXAMPLE, "web", sts, app=REPORT))
    namespace.logged("web", "app", "arn:aws")
    used = _working_set_mebibytes(node, namespace, "web", "irsa-sidecar")
    print(f"the sidecar's working set: {used:.1f} MiB")
    assert 5 < used < 40


def _injected_plainly(sts: ClusterSts, name: str, role: str) -> dict[str, Any]:
    """Return a Pod as the webhook changes it for an API server before 1.29, which lacks native sidecars."""
    settings = Settings(IMAGE, REGION, is_native=False, environment=(("AWS_ENDPOINT_URL_STS", sts.url),))
    metadata = {"name": name, "annotations": {"irsa-sidecar.io/role-arn": role_arn(role)}}
    authored = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": authored_spec(sts, REPORT)}
    return inject(authored, None, settings).pod


def _event(namespace: Namespace, name: str, event: str) -> dict[str, Any]:
    """Return the sidecar's first log event of that name."""
    lines = namespace.logged(name, "irsa-sidecar", f'"{event}"').splitlines()
    found: dict[str, Any] = next(entry for line in lines if (entry := json.loads(line))["event"] == event)
    return found


def _events(namespace: Namespace, name: str) -> str:
    """Return the messages of the Pod's events."""
    found = namespace.get("events", f"--field-selector=involvedObject.name={name}")
    return "\n".join(event.get("message", "") for event in found["items"])


def _apply_jobs(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    objects = documents(node.kustomize(K8S / "job"))
    for found in pods(objects):
        prepare(found["spec"], sts, {"app": "report(who_am_i())"})
    namespace.apply(*objects)


def _assert_both_ended_with_0(namespace: Namespace, selector: str) -> None:
    (found,) = namespace.get("pods", f"--selector={selector}")["items"]
    for container in ("app", "irsa-sidecar"):
        assert container_state(found, container)["state"]["terminated"]["exitCode"] == 0
    name = found["metadata"]["name"]
    assert session_arn(namespace, name) in namespace.logs(name, "app")
    assert "stopped" in namespace.logs(name, "irsa-sidecar")


def _working_set_mebibytes(node: Cluster, namespace: Namespace, name: str, container: str) -> float:
    summary = json.loads(node.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary").stdout)
    (found,) = [p for p in summary["pods"] if p["podRef"] == p["podRef"] | {"name": name, "namespace": namespace.name}]
    (memory,) = [c["memory"]["workingSetBytes"] for c in found["containers"] if c["name"] == container]
    return float(memory) / 1024 / 1024
