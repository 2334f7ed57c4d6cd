"""Test `setup pod` with manifests in the styles that people write."""

import json
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.setup.manifests import Options, change_pods
from tests.support.fakes import amazons_webhook
from tests.unit.injection.pods import ARN
from tests.unit.setup.pod_manifests import MANIFEST, SPEC, change, deployment, with_role, with_service_account


def test_other_lines_of_a_manifest_stay_unchanged() -> None:
    written = change_pods(MANIFEST, "m.yaml", change).text
    lines = iter(written.splitlines())
    assert all(any(line == each for each in lines) for line in MANIFEST.splitlines()), written
    _, app, config = yaml.safe_load_all(written)
    assert app["spec"]["template"]["spec"]["initContainers"][0]["env"][0]["value"].endswith(":role/cart")
    assert config == {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b", "c": "d"}}


def test_second_run_changes_nothing() -> None:
    once = change_pods(MANIFEST, "m.yaml", change)
    again = change_pods(once.text, "m.yaml", change)
    assert again.text == once.text
    assert again.workloads == once.workloads == ("Deployment shop/cart",)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "---\n", "--- # x\n", "\n# comment\n---\n"])
def test_document_markers_and_line_ends_stay_unchanged(start: str, line_end: str) -> None:
    text = (start + "kind: Pod\nspec:\n  containers:\n    - name: app\n").replace("\n", line_end)
    written = change_pods(text, "m.yaml", with_role).text
    assert written.startswith(start.replace("\n", line_end) + "kind: Pod")
    assert written.count("\r\n") == (written.count("\n") if line_end == "\r\n" else 0)


@pytest.mark.parametrize(
    "before", ["\ufeff", "---\n\ufeff", "kind: Pod\rspec: {containers: [{name: a}]}\r\n---\n\ufeff"]
)
def test_joined_files_with_marks_and_mixed_line_ends_are_read(before: str) -> None:
    """Windows editors begin a file with a byte order mark, and `cat` keeps the mark in the middle of a stream."""
    text = f"{before}kind: Pod\nspec:\n  containers:\n    - name: app\n"
    written = change_pods(text, "m.yaml", with_role)
    assert written.text.startswith(before[:1])
    assert len(written.workloads) == before.count("kind") + 1
    documents = list(yaml.safe_load_all(written.text.replace("\ufeff", "")))
    assert all(each["spec"]["initContainers"][0]["name"] == "irsa-sidecar" for each in documents)


def test_error_after_a_byte_order_mark_names_the_line() -> None:
    with pytest.raises(ConfigurationError, match=r"m\.yaml, line 3: "):
        change_pods("kind: A\n---\n\ufeffa: b: c\n", "m.yaml", with_role)


def test_document_on_the_line_of_its_marker_is_read() -> None:
    text = "--- {kind: Pod, spec: {containers: [{name: app}]}}\n--- {kind: Other}\n"
    first, second = yaml.safe_load_all(change_pods(text, "m.yaml", with_role).text)
    assert first["spec"]["initContainers"][0]["name"] == "irsa-sidecar"
    assert second == {"kind": "Other"}


@pytest.mark.parametrize(
    "kind",
    ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"],
)
def test_every_native_kind_with_pods_is_changed(kind: str) -> None:
    written = change_pods(yaml.safe_dump(deployment(SPEC, kind)), "m.yaml", with_role)
    assert "irsa-sidecar-authorization" in written.text
    assert written.workloads[0].startswith(kind)


def test_each_item_of_a_list_is_changed() -> None:
    items = [deployment(SPEC), {"kind": "Service", "metadata": {"name": "x"}}, deployment(SPEC, "Job")]
    text = yaml.safe_dump(
        json.loads(json.dumps({"kind": "List", "items": items}))
    )  # no part is replaced by a YAML alias
    written = change_pods(text, "m.yaml", with_role)
    first, service, job = yaml.safe_load(written.text)["items"]
    for each in (first, job):
        assert each["spec"]["template"]["spec"]["initContainers"][0]["name"] == "irsa-sidecar"
    assert service == items[1]
    assert "&id" not in written.text


@pytest.mark.parametrize("before", ["", "          app: cart\n"])
@pytest.mark.parametrize("after", ["", "          tier: web\n"])
def test_pod_identity_label_of_eks_is_removed(before: str, after: str) -> None:
    """Remove only the line of the label. Amazon's webhook changed this Pod before."""
    spec = spec_after_eks_webhook()
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "spec": spec}, sort_keys=False)
    metadata = f"metadata:\n  name: cart\n  labels:\n{before}          eks.amazonaws.com/pod-identity: enabled\n{after}"
    written = change_pods(text + metadata, "x", with_role).text
    assert "pod-identity" not in written
    assert (before + after) in written
    assert change_pods(written, "x", with_role).text == written


def spec_after_eks_webhook() -> Any:
    before = {"metadata": {"name": "cart"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    return amazons_webhook.mutated_for_pod_identity(before, region="eu-west-1")["spec"]


def test_json_manifest_remains_json() -> None:
    text = json.dumps(deployment(SPEC), indent=4)
    written = change_pods(text, "m.json", with_role).text
    assert json.loads(written)["spec"]["template"]["spec"]["initContainers"][0]["name"] == "irsa-sidecar"
    assert written.startswith('{\n    "kind"')


def labelled(value: Any) -> dict[str, Any]:
    found = deployment(SPEC)
    found["spec"]["template"]["metadata"] = {"labels": {"irsa-sidecar.io/inject": value}}
    return found


def test_only_labelled_pods_are_changed() -> None:
    text = yaml.safe_dump_all([deployment(SPEC), labelled("true")])
    assert change_pods(text, "m.yaml", with_role).text.startswith(text.split("---\n")[0] + "---\n")
    assert len(change_pods(text, "m.yaml", with_role).workloads) == 1


def test_pod_that_opts_out_is_unchanged_and_causes_a_note() -> None:
    text = yaml.safe_dump_all([deployment(SPEC), labelled("false")])
    written = change_pods(text, "m.yaml", with_role)
    assert written.text.endswith(yaml.safe_dump(labelled("false")))
    assert len(written.workloads) == 1
    assert written.notes == ('Deployment cart is left unchanged: its label irsa-sidecar.io/inject is "false".',)


@pytest.mark.parametrize("value", [True, "yes", "True", False, None])
def test_other_value_of_the_label_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'is .* Set it to "true" in quotes, or to "false" for no sidecar'):
        change_pods(yaml.safe_dump_all([deployment(SPEC), labelled(value)]), "m.yaml", with_role)


@given(st.text(max_size=60) | st.text("-: {}[]\n#&*a|>\"'", max_size=60))
def test_any_text_is_accepted_or_causes_an_error_message(text: str) -> None:
    try:
        written = change_pods(text, "m.yaml", with_role).text
    except ConfigurationError as error:
        written = text if str(error).startswith("m.yaml, line ") else str(error)
    assert written == text


BAD: dict[str, tuple[str, list[str]]] = {
    "a template": ("kind: Pod\n{{- if .Values.x }}\nspec: {}\n", ["m.yaml, line 3: ", "only after `helm template`"]),
    "a placeholder": ("image: {{ .Values.image }}\n", ["m.yaml, line 1: ", "only after `helm template`"]),
    "a mapping as a key": (
        "a:\n  ? [b]\n  : c\n",
        ["m.yaml, line 2: ", "(a mapping key is itself a mapping or a list)."],
    ),
    "an error in the second document": (
        "a: b\n---\nc: [\n",
        ["m.yaml, line 4: ", "(did not find expected node content)."],
    ),
    "no template": ("kind: Deployment\nmetadata: {name: a, namespace: b}\n", ["Deployment b/a has no spec.template"]),
    "a list as the template": (
        "kind: Deployment\nmetadata: {name: a}\nspec: {template: []}\n",
        ["Deployment a has a spec.template that is not a mapping"],
    ),
    "a Pod that is rejected": (
        "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: app}]}\n",
        ["m.yaml: Pod a: The Pod has hostNetwork"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_error_names_the_line_and_object(what: str) -> None:
    text, words = BAD[what]
    with pytest.raises(ConfigurationError) as caught:
        change_pods(text, "m.yaml", with_role)
    assert [each for each in words if each not in str(caught.value)] == []


UNREADABLE = ["a: {{ .Values.x }}\n", "a: [\n", "a:\n\tb: c\n", "? [a]\n: b\n", "a: *x\n", "a: \x01\n", "<<: 1\n"]
UNREADABLE += ["# " * 200 + "\na: [\n", "[" * 1000 + "\n", '{"a":' * 900 + "1" + "}" * 900 + "\n", "a: &a [x]\nb: *A\n"]


@pytest.mark.parametrize("bad", UNREADABLE)
def test_unreadable_document_next_to_a_pod_stays_unchanged(bad: str) -> None:
    good = yaml.safe_dump(deployment(SPEC))
    written = change_pods(f"{bad}---\n{good}---\n{bad}", "m.yaml", with_role)
    assert written.text.startswith(f"{bad}---\n")
    assert written.text.endswith(f"---\n{bad}")
    assert written.workloads == ("Deployment cart",)
    assert [note.startswith("m.yaml, line ") and note.endswith("passed on unchanged.") for note in written.notes] == [
        True,
        True,
    ]


@pytest.mark.parametrize("bad", UNREADABLE)
@pytest.mark.parametrize("name", ["inject", "role-arn"])
def test_unreadable_document_that_opts_in_is_an_error(bad: str, name: str) -> None:
    good = yaml.safe_dump(deployment(SPEC))
    with pytest.raises(ConfigurationError, match="It requests a sidecar"):
        change_pods(f'labels:\n  irsa-sidecar.io/{name}: "true"\n{bad}---\n{good}', "m.yaml", with_role)


def test_unreadable_document_that_opts_out_stays_unchanged() -> None:
    bad = '# irsa-sidecar.io/inject: "true"\nlabels: {irsa-sidecar.io/inject: "false"}\na: [\n'
    written = change_pods(f"{bad}---\n{yaml.safe_dump(deployment(SPEC))}", "m.yaml", with_role)
    assert written.text.startswith(bad)


WITHOUT_POD = [
    "metadata:\n  labels:\n    app: a\n    app: b\n",
    "a:   b\t\nc: 0400\n",
    "a: &x [1]\nb: *x\n%YAML 1.1 # c\n",
    "{a: no,   b: 'c'}\n",
    "a: |\n  ---\n  {{ x }}\n",
]


@pytest.mark.parametrize("text", WITHOUT_POD)
def test_document_without_a_pod_stays_unchanged(text: str) -> None:
    written = change_pods(f"{text}---\n{yaml.safe_dump(deployment(SPEC))}", "m.yaml", with_role)
    assert written.text.startswith(f"{text}---\n")
    assert written.notes == ()


def test_all_errors_are_reported_together() -> None:
    bad = {**SPEC, "hostNetwork": True}
    text = yaml.safe_dump_all([deployment(bad), deployment(SPEC), deployment(bad, "Job")])
    with pytest.raises(ConfigurationError) as caught:
        change_pods(text, "m.yaml", with_role)
    lines = str(caught.value).splitlines()
    assert [line.partition(": The Pod has hostNetwork")[0] for line in lines] == [
        "m.yaml: Deployment cart",
        "m.yaml: Job cart",
    ]


# ServiceAccounts


@pytest.mark.parametrize(
    "spec",
    [
        {"serviceAccountName": "cart"},
        {"serviceAccount": "cart"},
        {"serviceAccountName": "cart", "serviceAccount": "other"},
        {"serviceAccountName": "", "serviceAccount": "cart"},
    ],
)
def test_service_account_is_read_as_the_api_server_does(spec: dict[str, str]) -> None:
    """The API server's conversion from v1 copies the value of the old field into an empty new field."""
    assert ARN in change_pods(with_service_account("", **spec), "m.yaml", change).text.split("---")[0]


def test_new_field_of_the_service_account_has_priority() -> None:
    text = with_service_account("", serviceAccountName="other", serviceAccount="cart")
    with pytest.raises(ConfigurationError, match=r"There is no role\..* Or use --role-arn\."):
        change_pods(text, "m.yaml", change)


@pytest.mark.parametrize(
    ("namespace", "own_namespace", "words"),
    [
        ("shop", "", "is in namespace shop, and Deployment cart has no namespace. Use --namespace shop."),
        ("shop", "web", "is in namespace shop, and Deployment web/cart is in web."),
        ("", "web", "no namespace, and Deployment web/cart is in web. Use --namespace web."),
    ],
)
def test_service_account_in_another_namespace_is_reported(namespace: str, own_namespace: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        change_pods(with_service_account(namespace, own_namespace, serviceAccountName="cart"), "m.yaml", change)
    assert "There is no role" in str(caught.value)
    assert str(caught.value).endswith(words)


@pytest.mark.parametrize(
    "name", ["eks.amazon.com/role-arn", "eks.amazonaws.com/role_arn", "EKS.amazonaws.com/Role-ARN"]
)
def test_misspelt_annotation_is_named_in_the_error(name: str) -> None:
    text = with_service_account("shop", "shop", serviceAccountName="cart").replace("eks.amazonaws.com/role-arn", name)
    with pytest.raises(ConfigurationError) as caught:
        change_pods(text, "m.yaml", change)
    assert str(caught.value).endswith(
        f"ServiceAccount shop/cart has {name}, which is not read. Did you mean eks.amazonaws.com/role-arn?"
    )


@pytest.mark.parametrize("name", ["irsa-sidecar.io/injected", "irsa-sidecar.com/inject", "irsa_sidecar.io/Inject"])
def test_misspelt_label_is_an_error_next_to_other_pods(name: str) -> None:
    """Check the error. Without it, the Pod would silently stay unchanged, because other Pods have the correct label."""

    def deployment(app: str, label: str) -> str:
        return yaml.safe_dump(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": app},
                "spec": {
                    "template": {
                        "metadata": {"labels": {label: "true"}, "annotations": {"irsa-sidecar.io/role-arn": ARN}},
                        "spec": {"containers": [{"name": "app", "image": "i"}]},
                    }
                },
            }
        )

    for text in (
        deployment("web", name),
        deployment("web", name) + "---\n" + deployment("b", "irsa-sidecar.io/inject"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            change_pods(text, "m.yaml", change)
        assert "Deployment web" in str(caught.value)
        assert name in str(caught.value)
        assert str(caught.value).endswith("Did you mean irsa-sidecar.io/inject?")


@pytest.mark.parametrize(("namespace", "own_namespace"), [("shop", ""), ("", "shop"), ("", ""), ("shop", "shop")])
def test_namespace_flag_applies_to_objects_without_namespace(namespace: str, own_namespace: str) -> None:
    text = with_service_account(namespace, own_namespace, serviceAccountName="cart")
    assert ARN in change_pods(text, "m.yaml", change, Options("shop")).text.split("---")[0]


# Speed and progress


def calls_for(items: int) -> int:
    """Return the number of calls of Python and C functions in `setup pod` for a List of `items` Deployments."""
    text = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        "- " + yaml.safe_dump(deployment(SPEC)).replace("\n", "\n  ").rstrip(" ") for _ in range(items)
    )
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        written = change_pods(text, "m.yaml", with_role)
    finally:
        sys.setprofile(None)
    assert len(written.workloads) == items
    return calls


def test_work_grows_linearly_with_a_list() -> None:
    calls_for(1)  # this run fills the caches
    assert calls_for(80) < 4.2 * calls_for(20)


def test_progress_counts_the_finished_pods() -> None:
    seen: list[tuple[int, int]] = []
    change_pods(MANIFEST, "m.yaml", with_role, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 1), (1, 1)]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["Pod", "Job", "ServiceAccount", "List", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "metadata", "spec", "template", "items", "containers", "name", "namespace", "annotations"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.lists(plain, max_size=2))
def test_any_document_raises_only_configuration_errors(documents: list[Any]) -> None:
    text = json.dumps({"kind": "List", "items": documents})
    try:
        written = change_pods(text, "m.json", with_role)
    except ConfigurationError as error:
        outcome = str(error)
    else:
        outcome = written.text
    assert outcome
