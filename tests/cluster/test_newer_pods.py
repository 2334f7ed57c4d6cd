"""Test the sidecar with features of Kubernetes after 1.29: restarts, resources, users and tokens."""

import json
from typing import Any

import pytest

from tests.cluster.applications import authored_spec, pod, set_token_lifetime
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace, container_state
from tests.cluster.person import Person
from tests.cluster.sts import ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import labelled_pod
from tests.support.manifests import SIDECAR, sidecar_of

REPORT = "report(who_am_i())\nuntil_stopped()"
RESTART_STATUS = 42
DAY_SECONDS = 86_400


def require_version(cluster: Cluster, first: str) -> None:
    """Skip the test if the API server is older."""
    server = json.loads(cluster.kubectl("version", "--output=json").stdout)["serverVersion"]
    minor = int(server["minor"].rstrip("+"))
    if minor < int(first.partition(".")[2]):
        pytest.skip(f"needs Kubernetes {first}, and this is 1.{minor}")


def restarting_pod(sts: ClusterSts) -> dict[str, Any]:
    """
    Return a Pod whose application requests a restart of all containers once (KEP-5532).

    The kubelet removes the containers and their logs, so a volume keeps the results of the first run.
    """
    program = f"""
import hashlib
secret = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], "rb").read()
found = [hashlib.sha256(secret).hexdigest(), who_am_i()]
if os.path.exists("/marker/first"):
    report("compared", json.dumps([json.load(open("/marker/first")), found]))
    until_stopped()
with open("/marker/first", "w") as marker:
    json.dump(found, marker)
sys.exit({RESTART_STATUS})
"""
    web = pod("pod/example.yaml", "web", sts, app=program)
    (app,) = web["spec"]["containers"]
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [RESTART_STATUS]}}
    app |= {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    app["volumeMounts"].append({"name": "marker", "mountPath": "/marker"})
    web["spec"]["volumes"].append({"name": "marker", "emptyDir": {}})
    return web


def test_restart_of_all_containers_restores_credentials(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    """Check that the restart needs no call to STS. The sidecar replaces the secret in the file, as at every start."""
    require_version(node, "1.36")
    namespace.apply(restarting_pod(sts))
    output = namespace.logged("web", "app", "compared")
    (secret, arn), (secret_again, arn_again) = json.loads(output.partition("compared ")[2])
    assert arn == arn_again
    assert arn.endswith(f":assumed-role/app/{namespace.name}.web")
    assert secret != secret_again
    found = namespace.pod("web")
    assert container_state(found, SIDECAR)["restartCount"] == 1
    assert "credentials_restored" in namespace.logs("web", SIDECAR)
    subject = f"system:serviceaccount:{namespace.name}:app"
    assert len(sts.events("exchange_granted", subject=subject)) == 1


def test_sidecar_is_resized_without_a_restart(node: Cluster, namespace: Namespace, sts: ClusterSts) -> None:
    require_version(node, "1.33")
    namespace.apply(pod("pod/example.yaml", "web", sts, app="while True:\n    report(who_am_i())\n    time.sleep(0.5)"))
    namespace.logged("web", "app", "arn:aws")
    wanted = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "96Mi"}}
    patch = {"spec": {"initContainers": [{"name": SIDECAR, "resources": wanted}]}}
    namespace.kubectl("patch", "pod", "web", "--subresource=resize", f"--patch={json.dumps(patch)}")
    found = namespace.wait_for("web", lambda found: container_state(found, SIDECAR).get("resources") == wanted)
    assert container_state(found, SIDECAR)["restartCount"] == 0
    calls = namespace.logs("web", "app").count("arn:aws")
    wait_until(lambda: namespace.logs("web", "app").count("arn:aws") > calls, "a call after the resize")


def test_pod_with_pod_level_resources_runs_a_sidecar(node: Cluster, annotated: Namespace, sts: ClusterSts) -> None:
    """Check that the sidecar shares the resources of the Pod, whose class stays Guaranteed."""
    require_version(node, "1.34")
    spec = authored_spec(sts, program=REPORT) | {"resources": {"limits": {"cpu": "500m", "memory": "256Mi"}}}
    annotated.apply(labelled_pod(spec))
    assert f"/app/{annotated.name}.web" in annotated.logged("web", "app", "arn:aws")
    found = annotated.pod("web")
    assert found["status"]["qosClass"] == "Guaranteed"
    assert not sidecar_of(found).get("resources")


def test_pod_in_a_user_namespace_has_credentials(node: Cluster, annotated: Namespace, sts: ClusterSts) -> None:
    """Skip the test if the node's runtime has no user namespaces. containerd supports them since version 2."""
    require_version(node, "1.33")
    web = labelled_pod(authored_spec(sts, program=REPORT) | {"hostUsers": False})
    admitted = annotated.apply(web, dry_run=True)
    assert "Warning" not in admitted.stderr
    handlers = node.get("nodes")["items"][0]["status"].get("runtimeHandlers", ())
    if not any(handler.get("features", {}).get("userNamespaces") for handler in handlers):
        pytest.skip("the API server admits the Pod, but the node's runtime has no user namespaces")
    annotated.apply(web)
    assert f"/app/{annotated.name}.web" in annotated.logged("web", "app", "arn:aws")


def test_doctor_reports_the_limit_of_a_tokens_lifetime(
    node: Cluster, namespace: Namespace, sts: ClusterSts, person: Person
) -> None:
    """Request two days. The cluster's API server issues tokens for one day, as EKS does."""
    web = pod("pod/example.yaml", "web", sts, app=REPORT)
    set_token_lifetime(web, 2 * DAY_SECONDS)
    namespace.apply(web)
    namespace.logged("web", "app", "arn:aws")
    status, output = person.run(f"irsa-sidecar doctor --pod {namespace.name}/web --exec --json")
    assert status == 0, output
    report = json.loads(output)
    assert report["token_lifetimes"] == {"/var/run/secrets/irsa-sidecar/token": DAY_SECONDS}
    (found,) = [row for row in report["checks"] if (row["group"], row["check"]) == ("pod", "lifetime")]
    assert found["status"] == "warning"
    assert "valid for 1 d and not for expirationSeconds 172800" in found["observed"]
    assert f"Set expirationSeconds to {DAY_SECONDS}" in found["next_step"]
