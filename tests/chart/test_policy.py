"""Check that the chart with `injection: policy` installs exactly the objects of `irsa-sidecar setup policy`."""

from typing import Any

import pytest
import yaml

from sidecar.injection.settings import Settings
from sidecar.policy.objects import policy_objects
from tests.chart.rendering import OPTIONS, REGION, Helm, by_name
from tests.support.manifests import documents

VERSION = "--kube-version=1.36.0"

KINDS = {
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}

RESOURCES = {"requests": {"cpu": "0.05"}, "limits": {"cpu": "200m", "memory": "96Mi"}}

CHOSEN = [
    ({}, Settings("irsa-sidecar:0.1.0", REGION)),
    (
        {"sidecar": {**OPTIONS["process"]["sidecar"], "native": "auto"}, "image": {"repository": "r.example/a"}},
        Settings(
            f"r.example/a@{OPTIONS['process']['sidecar']['image']['digest']}",
            REGION,
            environment=(("HTTPS_PROXY", "http://proxy:3128"),),
            resources=RESOURCES,
        ),
    ),
    (
        {"sidecar": {"env": {"A": 'quote " and \\ and <é>', "B": "2"}, "resources": {"limits": {"memory": "64Mi"}}}},
        Settings(
            "irsa-sidecar:0.1.0",
            REGION,
            environment=(("A", 'quote " and \\ and <é>'), ("B", "2")),
            resources={"limits": {"memory": "64Mi"}},
        ),
    ),
]
"""Values of the chart, and the same settings of the command."""


def rendered(helm: Helm, **values: Any) -> list[dict[str, Any]]:
    return documents(helm.template({"injection": "policy"} | values, "--namespace=irsa-sidecar", VERSION).stdout)


@pytest.mark.parametrize(("values", "settings"), CHOSEN)
def test_chart_has_the_objects_of_the_command(helm: Helm, values: dict[str, Any], settings: Settings) -> None:
    found = {each["kind"]: each["spec"] for each in rendered(helm, **values)}
    expected = {each["kind"]: each["spec"] for each in policy_objects(settings)}
    if "A" in str(values):  # Helm escapes more characters than the command, but CEL reads the same text
        for specs in (found, expected):
            (text,) = (v for v in specs["MutatingAdmissionPolicy"]["variables"] if v["name"] == "environment")
            text["expression"] = yaml.safe_load(text["expression"])
    assert found == expected


def test_policies_need_no_other_object(helm: Helm) -> None:
    assert {each["kind"] for each in rendered(helm)} == KINDS


def test_policies_have_the_configured_names_and_labels(helm: Helm) -> None:
    objects = by_name(rendered(helm, **OPTIONS["names"], **OPTIONS["labels"]))
    assert {name for _, name in objects} == {"injector"}
    for found in objects.values():
        assert found["metadata"]["labels"]["app.kubernetes.io/component"] == "policy"
        assert found["metadata"]["labels"]["team"] == "platform"
        assert found["spec"].get("policyName", "injector") == "injector"


def test_configured_selectors_are_added_to_the_inject_label_rule(helm: Helm) -> None:
    chosen = {name: OPTIONS["admission"][name] for name in ("objectSelector", "namespaceSelector")}
    objects = by_name(rendered(helm, **chosen))
    for kind in ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"):
        constraints = objects[kind, "irsa-sidecar"]["spec"]["matchConstraints"]
        assert constraints["namespaceSelector"] == chosen["namespaceSelector"]
        assert constraints["objectSelector"]["matchLabels"] == {"tier": "web"}
        assert [each["key"] for each in constraints["objectSelector"]["matchExpressions"]] == [
            *["irsa-sidecar.io/inject"] * 2,
            "era",
        ]


def test_policy_chart_monitors_only_the_sidecars(helm: Helm) -> None:
    names = {name for _, name in by_name(rendered(helm, **OPTIONS["monitoring"]))}
    assert names == {"irsa-sidecar", "irsa-sidecar-dashboard"}


@pytest.mark.parametrize(
    ("values", "flag", "message"),
    [
        ({}, "--kube-version=1.35.9", "injection is policy, which needs Kubernetes 1.36, and the cluster has v1.35.9"),
        ({"sidecar": {"native": "never"}}, VERSION, "sidecar.native is never, but policies add native sidecars only"),
        ({"failurePolicy": "Ignore"}, VERSION, "failurePolicy is Ignore, which has no meaning"),
        ({"injection": "both"}, VERSION, "at '/injection': value must be one of 'webhook', 'policy'"),
    ],
)
def test_values_that_policies_do_not_support_are_rejected(
    helm: Helm, values: dict[str, Any], flag: str, message: str
) -> None:
    done = helm.template({"injection": "policy"} | values, flag, check=False)
    assert done.returncode != 0
    assert message in done.stderr
