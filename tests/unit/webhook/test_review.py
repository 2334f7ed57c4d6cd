"""Test the pure functions that parse reviews and decide on them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.injection.app_container import OWN_CREDENTIALS
from sidecar.injection.names import ROLES
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS as LONGEST_COMPARED
from sidecar.injection.validation import MAX_NAME_CHARACTERS
from sidecar.injection.warning import MAX_CHARACTERS, REASONS, reason_of
from sidecar.webhook import review as review_module
from sidecar.webhook.review import (
    MAX_PARTS,
    MAX_PATCH_BYTES,
    MAX_REASON_CHARACTERS,
    Outcome,
    Review,
    decide,
    read_review,
    temporarily_denied,
)
from tests.unit.config.test_roles_file import RAISING
from tests.unit.injection.pods import ACCOUNT, SETTINGS, pod
from tests.unit.webhook.cluster import admission_review, patched


def parsed(document: Any) -> Review:
    return read_review(json.dumps(document).encode())


def test_labelled_pod_is_patched() -> None:
    document = admission_review()
    result = decide(parsed(document), ACCOUNT, SETTINGS)
    assert result.outcome is Outcome.INJECTED
    assert result.document["response"]["patchType"] == "JSONPatch"
    assert result.document["response"]["uid"] == document["request"]["uid"]
    assert "irsa-sidecar-authorization" in str(patched(document["request"]["object"], result.document))


def test_injected_pod_needs_no_patch() -> None:
    document = admission_review()
    injected = patched(document["request"]["object"], decide(parsed(document), ACCOUNT, SETTINGS).document)
    result = decide(parsed(admission_review(injected)), ACCOUNT, SETTINGS)
    assert result.document["response"] == {"uid": "u-1", "allowed": True}


def test_deeply_nested_pod_is_patched() -> None:
    """Use a Pod too deep for recursion. Injection keeps unchanged parts, and the comparison skips them."""
    body = json.dumps(admission_review(pod(affinity="DEEP"))).replace('"DEEP"', "[" * 600 + "]" * 600)
    assert decide(read_review(body.encode()), ACCOUNT, SETTINGS).outcome is Outcome.INJECTED


@pytest.mark.parametrize("part", ["[]", "{}", "1", '{"a":1}'])
def test_review_with_too_many_values_is_not_parsed(part: str) -> None:
    body = json.dumps(admission_review(pod(padding="PADDING"))).replace(
        '"PADDING"', "[" + f"{part}," * MAX_PARTS + "1]"
    )
    with pytest.raises(ConfigurationError, match=f"more than {MAX_PARTS} values"):
        read_review(body.encode())


def test_largest_pod_with_short_variables_is_parsed() -> None:
    """Use a Pod of 3 MiB, the largest object that the API server accepts."""
    variable = '{"name":"A","value":"b"}'
    count = 3 * 1024 * 1024 // (len(variable) + 1)
    body = json.dumps(admission_review(pod(env="ENV"))).replace('"ENV"', f"[{','.join([variable] * count)}]")
    assert read_review(body.encode()).pod is not None


def test_denied_pod_gets_a_message_and_no_patch() -> None:
    result = decide(parsed(admission_review(pod(hostNetwork=True))), ACCOUNT, SETTINGS)
    response = result.document["response"]
    assert result.outcome is Outcome.DENIED
    assert response["allowed"] is False
    assert response["status"]["message"].startswith("The Pod has hostNetwork")
    assert "patch" not in response


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_longest_warning_about_a_container_is_not_cut(kind: str) -> None:
    """Check the limit of 256 characters, at which the API server cuts each warning."""
    env = [{"name": max(OWN_CREDENTIALS, key=len), "value": "x"}]
    own = {"name": "x" * MAX_NAME_CHARACTERS, "image": "i", "env": env}
    app = {"name": "app", "image": "i"}
    document = pod(app, own) if kind == "containers" else pod(app, initContainers=[own])
    result = decide(parsed(admission_review(document)), ACCOUNT, SETTINGS._replace(is_native=False))
    (warning,) = result.document["response"]["warnings"]
    assert MAX_NAME_CHARACTERS < len(warning) <= 256


@pytest.mark.parametrize("user", [None, 65532, 0])
def test_longest_warning_of_each_kind_is_not_cut(user: int | None) -> None:
    elsewhere = {"valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "none"}}}
    proxied: dict[str, Any] = {"name": "x" * MAX_NAME_CHARACTERS, "securityContext": {"runAsUser": user}}
    proxied["env"] = [{"name": name, **elsewhere} for name in ("NO_PROXY", "no_proxy")]
    env = [{"name": max(OWN_CREDENTIALS, key=len), "value": "x"}]
    own = {"name": "y" * MAX_NAME_CHARACTERS, "image": "i", "env": env}
    document = pod(proxied, own, shareProcessNamespace=True, terminationGracePeriodSeconds=2**63 - 1)
    misnamed = "eks.amazonaws.com/" + "-" * (LONGEST_COMPARED - 26) + "audience"
    result = decide(parsed(admission_review(document)), ACCOUNT._replace(unread=(misnamed,)), SETTINGS)
    warnings = result.document["response"]["warnings"]
    assert {reason_of(warning) for warning in result.warnings} == REASONS.keys()
    assert max(map(len, warnings)) <= MAX_CHARACTERS
    assert all(warning.endswith((".", "?")) for warning in warnings)


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": "UPDATE"},
        {"kind": {"group": "apps", "kind": "Deployment"}},
        {"kind": "Pod"},
        {"subResource": "ephemeralcontainers"},
        {"object": None},
        {"object": pod()},
        {"object": {"metadata": {"labels": {"irsa-sidecar.io/inject": "false"}}, "spec": {}}},
    ],
)
def test_unrelated_review_is_allowed_unchanged(changes: dict[str, Any]) -> None:
    result = decide(parsed(admission_review(**changes)), None, SETTINGS)
    assert result.outcome is Outcome.SKIPPED
    assert result.document["response"] == {"uid": "u-1", "allowed": True}


HOSTILE = "app\x1b]0;x\x07\x9b31m\u202e"


@pytest.mark.parametrize("containers", [[HOSTILE], [HOSTILE, "other"]])
def test_text_of_a_pod_is_safe_on_a_terminal(containers: list[str]) -> None:
    """The API server checks names after the webhooks, and kubectl prints messages and warnings as they are."""
    variable = {"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}
    apps = [{"name": name, "env": [variable] if name == HOSTILE else []} for name in containers]
    result = decide(parsed(admission_review(pod(*apps))), ACCOUNT, SETTINGS)
    response = result.document["response"]
    assert result.outcome is (Outcome.DENIED if len(apps) == 1 else Outcome.INJECTED)
    for text in (*response.get("warnings", ()), response.get("status", {}).get("message", r"app\x1b")):
        assert text.isprintable()
    assert r"app\x1b]0;x" in str(response.get("warnings") or response["status"]).replace("\\\\", "\\")


@pytest.mark.parametrize("value", ["True", "yes", "1", "", "enabled"])
def test_pod_with_a_wrong_label_value_is_denied(value: str) -> None:
    document = pod()
    document["metadata"]["labels"] = {"irsa-sidecar.io/inject": value}
    result = decide(parsed(admission_review(document)), ACCOUNT, SETTINGS)
    assert result.outcome is Outcome.DENIED
    assert f"label irsa-sidecar.io/inject is {value!r}" in (result.reason or "")
    assert '"true" in quotes' in (result.reason or "")


def test_temporarily_denied_pod_gets_a_503() -> None:
    result = temporarily_denied(parsed(admission_review()), "it is slow.")
    assert result.outcome is Outcome.FAILED
    assert result.document["response"]["status"]["code"] == 503
    assert result.document["response"]["status"]["message"].startswith("ServiceAccount shop/cart could not be fetched")


def test_pod_without_a_name_gets_its_prefix_as_the_name() -> None:
    found = pod()
    found["metadata"] = {"generateName": "cart-7d4-"}
    assert parsed(admission_review(found)).name == "cart-7d4-*"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"request": {}}', b"[" * 100_000, b'{"request": 1}'])
def test_body_that_is_not_a_review_is_rejected(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not an AdmissionReview"):
        read_review(body)


def test_review_of_another_version_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="admissionReviewVersions"):
        parsed(admission_review() | {"apiVersion": "admission.k8s.io/v1beta1"})


@pytest.mark.parametrize(
    ("namespace", "service_account"),
    [("irsa-sidecar/secrets/irsa-sidecar-webhook?x=", "a"), ("shop", "../a"), ("shop", "a\r\nX: y"), ("shop", "é")],
)
def test_name_that_changes_the_request_path_is_rejected(namespace: str, service_account: str) -> None:
    with pytest.raises(ConfigurationError, match="name is not valid"):
        parsed(admission_review(namespace=namespace, service_account=service_account))


plain = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "labels", "annotations", "containers"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(plain)
def test_any_labelled_object_gets_a_response_or_an_error(found: Any) -> None:
    document = admission_review()
    found = found if isinstance(found, dict) else {"spec": found}
    found["metadata"] = {"labels": {"irsa-sidecar.io/inject": "true"}}
    document["request"]["object"] = found
    try:
        result = decide(parsed(document), ACCOUNT, SETTINGS)
    except ConfigurationError as error:
        text = str(error)
    else:
        text = base64.b64encode(json.dumps(result.document).encode()).decode()
    assert text


@pytest.mark.parametrize("text", RAISING.values(), ids=RAISING)
def test_annotation_that_breaks_a_parser_is_denied(text: str) -> None:
    """Use the texts with which the tests of the roles file make the parser raise."""
    document = admission_review()
    document["request"]["object"]["metadata"].setdefault("annotations", {})[ROLES] = text
    result = decide(parsed(document), ACCOUNT, SETTINGS)
    assert result.outcome is Outcome.DENIED
    assert result.document["response"]["allowed"] is False
    assert f"annotation {ROLES}" in result.document["response"]["status"]["message"]


@pytest.mark.parametrize("error", [OverflowError, RecursionError, UnicodeError, KeyError, MemoryError])
def test_unexpected_exception_denies_the_pod(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(review_module, "inject", fail)
    result = decide(parsed(admission_review()), ACCOUNT, SETTINGS)
    status = result.document["response"]["status"]
    assert result.document["response"]["allowed"] is False
    assert (status["code"], result.outcome) == (500, Outcome.FAILED)
    assert error.__name__ in status["message"]
    assert isinstance(result.fault, error)


HUGE = {
    "a selector that is a list": ("nodeSelector", [0] * 100_000),
    "an existing sidecar with many ports": (
        "containers",
        [{"name": "app"}, {"name": "irsa-sidecar", "ports": [{"containerPort": number} for number in range(60_000)]}],
    ),
    "many containers": ("containers", [{"name": f"{number:063}"} for number in range(1000)]),
    "a mount with a long name": ("containers", [{"name": "a", "volumeMounts": [{"name": "b" * 10**6}]}]),
    "a mount at a long path": (
        "containers",
        [{"name": "a", "volumeMounts": [{"name": "b", "mountPath": "/run/irsa-sidecar/" + "b" * 10**6}]}],
    ),
}


@pytest.mark.parametrize("kind", HUGE)
def test_response_has_a_limited_size(kind: str) -> None:
    """Check both limits: the API server reads the whole response, and the log contains the reason."""
    found = admission_review(pod())
    key, value = HUGE[kind]
    found["request"]["object"]["spec"][key] = value
    result = decide(read_review(json.dumps(found).encode()), ACCOUNT, SETTINGS)
    assert len(json.dumps(result.document)) < 2 * MAX_PATCH_BYTES
    assert len(result.reason or "") <= MAX_REASON_CHARACTERS + 1
