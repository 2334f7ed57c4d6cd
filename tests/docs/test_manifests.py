"""Check that the sidecar is the same in every manifest, and that its settings exist."""

import re
from typing import Any

import pytest
import yaml

from sidecar import __version__
from sidecar.config.settings import unknown_variables
from sidecar.injection.inject import inject
from sidecar.injection.settings import Settings
from tests.support.documents import blocks
from tests.support.manifests import K8S, ROOT, SIDECAR, overlays, pods, read, sidecar_of, variables_of

FILES = ["pod/example.yaml", "pod/before-1.29.yaml", "pod/roles.yaml", "pod/patch.yaml", "pod/patch-cronjob.yaml"]


def the_pod(file: str) -> dict[str, Any]:
    (pod,) = pods(read(file))
    return pod


@pytest.mark.parametrize("file", FILES)
def test_sidecar_equals_the_example_except_for_some_fields(file: str) -> None:
    differing = {"env", "volumeMounts", "restartPolicy", "lifecycle"}
    example, here = sidecar_of(the_pod("pod/example.yaml")), sidecar_of(the_pod(file))
    assert {k: v for k, v in here.items() if k not in differing} == {
        k: v for k, v in example.items() if k not in differing
    }


@pytest.mark.parametrize("file", FILES)
def test_image_in_each_manifest_has_this_version(file: str) -> None:
    assert sidecar_of(the_pod(file))["image"] == f"irsa-sidecar:{__version__}"


@pytest.mark.parametrize("file", FILES)
def test_variables_in_manifests_are_settings(file: str) -> None:
    assert unknown_variables(variables_of(sidecar_of(the_pod(file)))) == []


@pytest.mark.parametrize("volume", ["irsa-sidecar-token", "irsa-sidecar-state"])
@pytest.mark.parametrize("file", FILES)
def test_only_the_sidecar_mounts_token_and_state(file: str, volume: str) -> None:
    spec = the_pod(file)["spec"]
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    mounting = [
        container["name"]
        for container in containers
        if any(mount["name"] == volume for mount in container.get("volumeMounts", ()))
    ]
    assert mounting == ["irsa-sidecar"]


@pytest.mark.parametrize("file", ["pod/example.yaml", "pod/before-1.29.yaml", "pod/roles.yaml"])
def test_injection_adds_nothing_to_the_pod_manifests(file: str) -> None:
    """Check that each Pod equals the Pod that `setup pod` and the webhook create."""
    pod = the_pod(file)
    is_native = "restartPolicy" in sidecar_of(pod)
    settings = Settings(sidecar_of(pod)["image"], "us-east-1", is_native=is_native)
    assert inject(pod, None, settings) == (pod, ())


def test_patch_of_the_cronjob_equals_the_pod_patch() -> None:
    assert the_pod("pod/patch-cronjob.yaml") == the_pod("pod/patch.yaml")


def test_plain_sidecar_drains_before_the_kubelet_kills_it() -> None:
    pod = the_pod("pod/before-1.29.yaml")
    drain_seconds = int(variables_of(sidecar_of(pod))["IRSA_SIDECAR_DRAIN_SECONDS"])
    assert 0 < drain_seconds < pod["spec"]["terminationGracePeriodSeconds"]


def test_every_manifest_is_checked() -> None:
    """Exclude the webhook and the audit, which have no sidecar, and chart templates, which are not YAML yet."""
    manifests = [path for path in K8S.rglob("*.yaml") if "templates" not in path.parts]
    workloads = {str(path.relative_to(K8S)) for path in manifests if list(pods(read(str(path))))}
    elsewhere = {"audit/cronjob.yaml", "webhook/deployment.yaml", "webhook/cert-manager/patch.yaml"}
    assert workloads == {*FILES, "job/job.yaml", "job/cronjob.yaml", *elsewhere}


def test_both_webhook_deployments_have_this_version() -> None:
    """Check also the Service's name, because Kubernetes creates variables with that name in each Pod."""
    objects = read("webhook/deployment.yaml")
    (container,) = next(pods(objects))["spec"]["containers"]
    assert container["image"] == f"irsa-sidecar:{__version__}-tools"
    assert f"SIDECAR_IMAGE=irsa-sidecar:{__version__}" in (K8S / "webhook/kustomization.yaml").read_text()
    (chart,) = read("chart/Chart.yaml")
    assert chart["appVersion"] == chart["version"] == __version__
    (service,) = [found for found in objects if found["kind"] == "Service"]
    assert not service["metadata"]["name"].startswith(SIDECAR)


def test_page_and_comment_show_the_same_webhook_overlay() -> None:
    """tests/cluster/test_manifests.py builds the overlay with kustomize."""
    (shown,) = overlays("docs/install.md")
    lines = (K8S / "webhook/kustomization.yaml").read_text().splitlines()
    comment = "".join(line.removeprefix("#     ") + "\n" for line in lines if line.startswith("#     "))
    assert comment == shown
    overlay, base = yaml.safe_load(shown), yaml.safe_load("\n".join(lines))
    (image,), (generator,) = overlay["images"], overlay["configMapGenerator"]
    names = {name.partition("=")[0] for name in base["configMapGenerator"][0]["literals"]}
    assert {name.partition("=")[0] for name in generator["literals"]} == names
    assert f"SIDECAR_IMAGE={image['newName']}:{__version__}" in generator["literals"]


def test_images_of_the_overlay_are_built_and_pushed() -> None:
    text = (ROOT / "docs/install.md").read_text()
    name = yaml.safe_load(overlays("docs/install.md")[0])["images"][0]["newName"]
    assert f"make images IMAGE={name}:{__version__}\n" in text
    for tag in (__version__, f"{__version__}-tools"):
        assert f"docker push {name}:{tag}\n" in text


def test_documents_apply_only_existing_folders() -> None:
    documents = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    folders = {found for path in documents for found in re.findall(r"kubectl apply -k (k8s[\w/-]*)", path.read_text())}
    assert "k8s/webhook" not in folders
    assert folders
    for folder in folders:
        assert (ROOT / folder / "kustomization.yaml").exists()


def test_short_manifest_has_the_variables_of_the_example() -> None:
    (block,) = blocks("docs/manifests.md", "By hand", "yaml")
    short: dict[str, Any] = yaml.safe_load(block.text)
    whole = the_pod("pod/example.yaml")["spec"]
    for key in ("initContainers", "containers"):
        assert [variables_of(each) for each in short[key]] == [variables_of(each) for each in whole[key]]
    assert sidecar_of({"spec": short})["startupProbe"] == sidecar_of({"spec": whole})["startupProbe"]
    assert [volume["name"] for volume in short["volumes"]] == [volume["name"] for volume in whole["volumes"]]
