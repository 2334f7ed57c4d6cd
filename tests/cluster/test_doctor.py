"""Test `irsa-sidecar doctor --pod` as a person uses it for a real cluster, with working and broken Pods."""

import re

import pytest

from tests.cluster.applications import authored_spec, pod
from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.person import Person
from tests.cluster.sts import ClusterSts, role_arn
from tests.cluster.webhook import labelled_pod
from tests.support.documents import commands
from tests.support.manifests import variables_of

REPORT = "report(who_am_i())\nuntil_stopped()"


@pytest.mark.core
def test_doctor_finds_no_failure_in_a_working_pod(annotated: Namespace, sts: ClusterSts, person: Person) -> None:
    """Run `doctor --pod` with our own flags, and as in the last step of the tutorial."""
    annotated.apply(labelled_pod(authored_spec(sts, program=REPORT)))
    annotated.logged("web", "app", "arn:aws")
    status, output = person.run(f"irsa-sidecar doctor --pod {annotated.name}/web --verbose")
    assert status == 0, output
    assert "the daemon reports that it has credentials" in output
    assert "Add --exec" in output
    (documented,) = [command for command in commands("docs/first-pod.md", "5. See it work") if "--pod" in command]
    status, output = person.run(re.sub(r"shop/\S+", f"{annotated.name}/web --verbose", documented))
    assert status == 0, output
    assert f"system:serviceaccount:{annotated.name}:app, Pod web" in output
    assert re.search("STS issues ASIA\\w+ for", output), output
    assert "200 with ASIA" in output
    assert "needs the package botocore" in output  # images for Pods lack a part of botocore
    assert "FAILED" not in output


def test_doctor_reports_a_role_of_another_service_account(
    annotated: Namespace, sts: ClusterSts, person: Person
) -> None:
    role = {"irsa-sidecar.io/role-arn": role_arn("foreign")}
    annotated.apply(labelled_pod(authored_spec(sts, program=REPORT), annotations=role))
    annotated.logged("web", "irsa-sidecar", "refresh_failed")
    outside = f"irsa-sidecar doctor --pod {annotated.name}/web"
    found = person.first_failure(outside)
    assert (found["group"], found["check"]) == ("pod", "readiness")
    assert "AccessDenied" in found["observed"]
    assert "The role's trust policy does not match this token" in found["observed"]
    found = person.first_failure(f"{outside} --exec")
    assert (found["group"], found["check"]) == ("pod", "readiness")
    assert f"sub is system:serviceaccount:{annotated.name}:app" in found["next_step"]
    _, output = person.run(f"{outside} --exec")
    assert f"the trust policy of {role_arn('foreign')} does not allow this" in " ".join(output.split())
    assert "CPU limit" not in output  # doctor must not report a slow start as the cause


def test_doctor_reports_web_identity_settings_of_a_container(
    node: Cluster, namespace: Namespace, sts: ClusterSts, person: Person
) -> None:
    web = pod("pod/example.yaml", "web", sts, app=REPORT)
    (app,) = [container for container in web["spec"]["containers"] if container["name"] == "app"]
    app["env"].append({"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/left/token"})
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in variables_of(app)
    namespace.apply(web)
    namespace.logged("web", "irsa-sidecar", "credentials_refreshed")
    for more in ("", " --exec"):
        found = person.first_failure(f"irsa-sidecar doctor --pod {namespace.name}/web{more}")
        assert (found["group"], found["check"], found["container"]) == ("environment", "web_identity", "app")
        assert "AWS_WEB_IDENTITY_TOKEN_FILE" in found["observed"]


def test_pod_without_injection_gets_advice_to_recreate_it(
    annotated: Namespace, sts: ClusterSts, person: Person
) -> None:
    """Add the label after the Pod was created, so the API server never called the webhook for this Pod."""
    annotated.apply(labelled_pod(authored_spec(sts), labels={}))
    annotated.kubectl("label", "pod", "web", "irsa-sidecar.io/inject=true")
    found = person.first_failure(f"irsa-sidecar doctor --pod {annotated.name}/web --exec")
    assert (found["group"], found["check"]) == ("pod", "sidecar")
    assert "recreate the Pod" in found["next_step"]
