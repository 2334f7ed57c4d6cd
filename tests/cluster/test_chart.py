"""The chart k8s/chart makes the same objects as k8s/webhook, and its schema refuses what could not work."""

import shutil
import subprocess
from typing import Any

import pytest

from tests.manifests import K8S, documents

CHART, NAMESPACE = str(K8S / "chart"), "irsa-sidecar"
VERSION = "--kube-version=1.34.0"
"""What a helm without a cluster takes the API server for."""

Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for program in ("helm", "kubectl"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def test_it_makes_what_the_kustomization_makes() -> None:
    wanted = _by_name(_output("kubectl", "kustomize", str(K8S / "webhook")))
    del wanted["Namespace", NAMESPACE]  # Helm makes it, by --create-namespace
    (settings,) = [key for key in wanted if key[0] == "ConfigMap"]
    _set_arguments(wanted["Deployment", "webhook"], wanted.pop(settings)["data"])
    assert _by_name(_template()) == wanted


def test_values_come_where_they_belong() -> None:
    found = _by_name(
        _template(
            "--set=image.repository=registry.example.com/irsa-sidecar,image.tag=1.2.3,region=eu-west-1,replicas=3",
            "--set=env.HTTPS_PROXY=http://proxy:3128,nodeSelector.pool=system,networkPolicy=false",
            "--set=tolerations[0].key=system,imagePullSecrets[0].name=registry",
        )
    )
    spec = found["Deployment", "webhook"]["spec"]
    pod = spec["template"]["spec"]
    assert spec["replicas"] == 3
    assert pod["containers"][0]["image"] == "registry.example.com/irsa-sidecar:1.2.3-tools"
    assert pod["containers"][0]["args"] == [
        "webhook",
        "--image=registry.example.com/irsa-sidecar:1.2.3",
        "--region=eu-west-1",
        "--env=HTTPS_PROXY=http://proxy:3128",
    ]
    assert pod["nodeSelector"] == {"pool": "system"}
    assert pod["tolerations"] == [{"key": "system"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert ("NetworkPolicy", "webhook") not in found


def test_another_namespace_is_another_everywhere() -> None:
    assert "irsa-sidecar" not in {found["metadata"].get("namespace") for found in documents(_template(namespace="aws"))}
    configuration = _by_name(_template(namespace="aws"))["MutatingWebhookConfiguration", "irsa-sidecar"]
    (webhook,) = configuration["webhooks"]
    assert webhook["clientConfig"]["service"]["namespace"] == "aws"
    assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == ["aws"]


@pytest.mark.parametrize("value", ["replicas=0", "region=Ireland!", "image.repository=", "replica=3"])
def test_what_could_not_work_is_refused_by_name(value: str) -> None:
    done = _helm("template", "irsa-sidecar", CHART, VERSION, f"--set={value}")
    assert done.returncode != 0
    assert value.partition("=")[0].replace(".", "/") in done.stderr


def test_helm_finds_nothing_to_complain_about() -> None:
    done = _helm("lint", "--strict", CHART, VERSION)
    assert done.returncode == 0, done.stdout


def _template(*flags: str, namespace: str = NAMESPACE) -> str:
    return _output("helm", "template", "irsa-sidecar", CHART, VERSION, f"--namespace={namespace}", *flags)


def _set_arguments(deployment: dict[str, Any], settings: dict[str, str]) -> None:
    """In place of variables, which are how a kustomization sets them."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    del container["envFrom"]
    for name, value in settings.items():
        container["args"] = [argument.replace(f"$({name})", value) for argument in container["args"]]


def _by_name(text: str) -> Objects:
    return {(found["kind"], found["metadata"]["name"]): found for found in documents(text)}


def _helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
