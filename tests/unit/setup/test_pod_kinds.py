"""Test the objects that have Pods, and the choice of the Pods to change."""

import copy
from typing import Any

import pytest
import yaml

from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.setup.manifests import ChangedStream, Options, Workload, change_pods
from sidecar.setup.pod_kinds import template_path
from tests.unit.injection.pods import ARN, SETTINGS

LABEL = "irsa-sidecar.io/inject"
REQUESTING = {"labels": {LABEL: "true"}}
ANNOTATED = {"annotations": {"irsa-sidecar.io/role-arn": ARN}}
ROLE = SETTINGS._replace(role_arn=ARN)


def template(metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": copy.deepcopy(metadata or {}), "spec": {"containers": [{"name": "app", "image": "app"}]}}


def resource(api_version: str, kind: str, spec: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "x", **copy.deepcopy(metadata or {})},
        "spec": spec,
    }


def workload(api_version: str, kind: str, metadata: dict[str, Any] | None = None) -> Any:
    return resource(api_version, kind, {"template": template(metadata)})


PLAIN = workload("apps/v1", "Deployment")


def run(*objects: Any, paths: tuple[str, ...] = ()) -> ChangedStream:
    def change(found: Workload) -> dict[str, Any]:
        return inject(found.pod, found.service_account, ROLE).pod

    options = Options("", tuple(template_path("--template-path", path) for path in paths))
    return change_pods(yaml.safe_dump_all(objects, sort_keys=False), "m.yaml", change, options)


def error_of(*objects: Any, paths: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigurationError) as caught:
        run(*objects, paths=paths)
    return str(caught.value)


NATIVE = [
    *[("apps/v1", kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")],
    *[("extensions/v1beta1", "Deployment"), ("apps/v1beta2", "StatefulSet")],
    *[("v1", "ReplicationController"), ("batch/v1", "Job")],
]

OTHERS = [
    ("argoproj.io/v1alpha1", "Rollout"),
    ("serving.knative.dev/v1", "Service"),
    ("apps.kruise.io/v1alpha1", "CloneSet"),
    ("apps.openshift.io/v1", "DeploymentConfig"),
    ("apps.kruise.io/v1beta1", "StatefulSet"),
    ("example.com/v1", "Deployment"),
    ("batch.example.com/v1", "Job"),
    ("example.com/v1", "Pod"),
    ("v1", "DeploymentConfig"),  # the old API version of OpenShift
    ("v1", "Deployment"),
    ("apps/v1", "Job"),
]


@pytest.mark.parametrize(("api_version", "kind"), NATIVE)
def test_native_workload_is_changed_without_a_label(api_version: str, kind: str) -> None:
    assert run(workload(api_version, kind)).workloads == (f"{kind} x",)


@pytest.mark.parametrize("metadata", [REQUESTING, ANNOTATED])
@pytest.mark.parametrize(("api_version", "kind"), OTHERS)
def test_custom_resource_with_a_marked_template_is_changed(
    api_version: str, kind: str, metadata: dict[str, Any]
) -> None:
    written = run(workload(api_version, kind, metadata))
    assert written.workloads == (f"{kind} x",)
    found = yaml.safe_load(written.text)["spec"]["template"]["spec"]
    assert found["initContainers"][0]["name"] == "irsa-sidecar"


@pytest.mark.parametrize(("api_version", "kind"), OTHERS)
def test_custom_resource_without_a_request_is_reported(api_version: str, kind: str) -> None:
    written = run(workload(api_version, kind), PLAIN)
    assert written.workloads == ("Deployment x",)
    assert f"{kind} x is left unchanged" in written.notes[0]
    assert f"{kind} x is left unchanged" in error_of(workload(api_version, kind))
    assert run(workload(api_version, kind), workload("apps/v1", "Deployment", REQUESTING)).notes == ()


@pytest.mark.parametrize(("api_version", "kind"), OTHERS)
def test_label_selects_its_custom_resource_and_no_deployment(api_version: str, kind: str) -> None:
    written = run(PLAIN, workload(api_version, kind, REQUESTING))
    assert written.workloads == (f"{kind} x",)
    assert written.text.startswith(yaml.safe_dump(PLAIN, sort_keys=False))


def test_custom_resource_that_opts_out_stays_unchanged() -> None:
    rollout = workload("argoproj.io/v1alpha1", "Rollout", {"labels": {LABEL: "false"}, **ANNOTATED})
    assert run(rollout, PLAIN).workloads == ("Deployment x",)


VOLCANO = resource("batch.volcano.sh/v1alpha1", "Job", {"tasks": [{"name": "a", "template": template(REQUESTING)}]})
SPARK = resource("sparkoperator.k8s.io/v1beta2", "SparkApplication", {"driver": {"labels": {LABEL: "true"}}})
RAY = resource(
    "ray.io/v1",
    "RayCluster",
    {"headGroupSpec": {"template": template()}, "workerGroupSpecs": [{"template": template(ANNOTATED)}]},
)

REQUESTS_ELSEWHERE: dict[str, tuple[Any, str, str]] = {
    "a list of templates": (VOLCANO, "spec.tasks[0].template.metadata.labels", "--template-path spec.tasks[].template"),
    "labels without a template": (SPARK, "spec.driver.labels", "--template-path"),
    "an annotation in a list": (
        RAY,
        "spec.workerGroupSpecs[0].template.metadata.annotations",
        "--template-path spec.workerGroupSpecs[].template",
    ),
    "the object itself": (resource("example.com/v1", "App", {}, REQUESTING), "metadata.labels", "--template-path"),
    "a kind in a wrong group": (
        {"apiVersion": "apps/v1", "kind": "Pod", "metadata": {"name": "x", **REQUESTING}, "spec": template()["spec"]},
        "metadata.labels",
        "--template-path",
    ),
    "a template without containers": (
        resource("example.com/v1", "App", {"template": {"metadata": REQUESTING}}),
        "spec.template.metadata.labels",
        "--template-path",
    ),
}


@pytest.mark.parametrize("what", REQUESTS_ELSEWHERE)
def test_request_outside_a_template_is_an_error(what: str) -> None:
    found, place, advice = REQUESTS_ELSEWHERE[what]
    for objects in ((found,), (PLAIN, found), (resource("v1", "List", {}) | {"items": [PLAIN, found]},)):
        error = error_of(*objects)
        assert f"{found['kind']} x requests a sidecar at {place}" in error
        assert advice in error


@pytest.mark.parametrize("found", [VOLCANO, RAY])
def test_object_without_a_request_stays_unchanged(found: Any) -> None:
    text = yaml.safe_dump(found).replace("irsa-sidecar.io/", "example.com/")
    written = run(yaml.safe_load(text), PLAIN)
    assert written.workloads == ("Deployment x",)
    assert yaml.safe_load(written.text.split("---\n")[0]) == yaml.safe_load(text)


def test_template_path_leads_to_pods() -> None:
    written = run(VOLCANO, paths=("spec.tasks[].template",))
    assert "irsa-sidecar-token" in written.text
    paths = ("spec.headGroupSpec.template", ".spec.workerGroupSpecs[].template")
    assert run(RAY, paths=paths).workloads == ("RayCluster x", "RayCluster x")
    driver = resource("sparkoperator.k8s.io/v1beta2", "SparkApplication", {"driver": {"template": template()}})
    assert run(driver, PLAIN, paths=("spec.driver.template",)).workloads == ("SparkApplication x", "Deployment x")


def test_template_path_without_a_template_is_an_error() -> None:
    assert "--template-path is spec.tasks.template" in error_of(VOLCANO, PLAIN, paths=("spec.tasks.template",))


@pytest.mark.parametrize("text", ["", ".", "spec..x", "spec.x[0]", "spec/x", "spec.x y"])
def test_template_path_must_be_a_path(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--template-path is"):
        template_path("--template-path", text)


def test_labels_on_all_objects_are_accepted() -> None:
    """Use the same labels on objects, templates and selectors, as kustomize writes them."""
    service = resource("v1", "Service", {"selector": REQUESTING["labels"]}, REQUESTING)
    rollout = workload("argoproj.io/v1alpha1", "Rollout", REQUESTING)
    rollout["metadata"] |= copy.deepcopy(REQUESTING)
    monitor = resource("monitoring.coreos.com/v1", "PodMonitor", {"selector": {"matchLabels": REQUESTING["labels"]}})
    assert run(service, rollout, monitor).workloads == ("Rollout x",)


@pytest.mark.parametrize("label", [LABEL, "irsa-sidecar.io/injected"])
def test_label_only_on_a_native_object_causes_a_note(label: str) -> None:
    misplaced = workload("apps/v1", "StatefulSet")
    misplaced["metadata"]["labels"] = {label: "true"}
    written = run(misplaced, workload("apps/v1", "Deployment", REQUESTING))
    assert written.workloads == ("Deployment x",)
    assert "StatefulSet x is left unchanged" in written.notes[0]


def test_annotation_only_on_the_object_causes_a_note() -> None:
    misplaced = workload("apps/v1", "Deployment", ANNOTATED)
    misplaced["metadata"]["annotations"] = {"irsa-sidecar.io/duration": "900", **ANNOTATED["annotations"], "a": "b"}
    (note,) = run(misplaced, resource("v1", "Pod", {"containers": [{"name": "app"}]}, ANNOTATED)).notes
    assert note == (
        "Deployment x has the annotation irsa-sidecar.io/duration, which has no effect there. "
        "Move it to metadata.annotations of spec.template."
    )


def test_label_on_the_job_template_causes_a_note() -> None:
    """A CronJob has metadata at three places, and the label counts only in the innermost."""
    misplaced = resource(
        "batch/v1", "CronJob", {"jobTemplate": {"metadata": REQUESTING, "spec": {"template": template()}}}
    )
    written = run(misplaced, workload("apps/v1", "Deployment", REQUESTING))
    assert written.workloads == ("Deployment x",)
    assert "CronJob x is left unchanged: its Pods lack the label" in written.notes[0]


@pytest.mark.parametrize(("api_version", "kind"), OTHERS)
def test_misspelt_label_in_a_custom_resource_is_an_error(api_version: str, kind: str) -> None:
    misspelt = workload(api_version, kind, {"labels": {"irsa-sidecar.com/inject": "true"}})
    for other in (PLAIN, workload("apps/v1", "Deployment", REQUESTING)):
        assert f"Did you mean {LABEL}?" in error_of(other, misspelt)


def test_items_of_a_typed_list_have_the_kind_of_the_list() -> None:
    items = [{key: value for key, value in PLAIN.items() if key not in ("apiVersion", "kind")}]
    written = run({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": items})
    assert written.workloads == ("Deployment x",)
    assert "kind" not in yaml.safe_load(written.text)["items"][0]


def test_native_object_without_a_template_stays_unchanged() -> None:
    """Use an object without a template, for example a patch for kustomize."""
    patch = resource("apps/v1", "Deployment", {"replicas": 3}, {"name": "patch"})
    written = run(patch, PLAIN)
    assert written.workloads == ("Deployment x",)
    assert "Deployment patch has no spec.template" in written.notes[0]
    assert "Deployment patch has no spec.template" in error_of(patch)
    patch["metadata"] |= copy.deepcopy(REQUESTING)
    assert "Deployment patch has no spec.template" in error_of(patch, PLAIN)


def test_lists_inside_lists_are_searched() -> None:
    inner = {"apiVersion": "v1", "kind": "List", "items": [PLAIN]}
    written = run({"apiVersion": "v1", "kind": "List", "items": [inner, workload("batch/v1", "Job")]})
    assert written.workloads == ("Deployment x", "Job x")


def test_name_of_an_object_is_safe_on_a_terminal() -> None:
    found = workload("apps/v1", "Deployment")
    found["metadata"]["name"] = "a\x1b[31m"
    assert run(found).workloads == ("Deployment a\\x1b[31m",)
