"""Test the sidecar's resources: the operator's choice, and the resources in a Guaranteed Pod."""

import json
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.injection.resources import RESOURCES, check_resources, read_quantity
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import ACCOUNT, PLAIN, SETTINGS, container, pod

FLAG = "--sidecar-resources"

BEYOND_UNICODE = "OverflowError" if sys.version_info < (3, 13) else "ValueError"
"""The error of `chr` for a character beyond Unicode, which PyYAML does not catch."""

LIMITS: Document = {"limits": {"cpu": "1", "memory": "1Gi"}}
GUARANTEED: Document = {"name": "app", "image": "a", "resources": LIMITS}


def resources_of(original: Document, settings: Settings = SETTINGS) -> Any:
    return container(inject(original, ACCOUNT, settings).pod, "irsa-sidecar")["resources"]


def with_resources(text: str) -> Settings:
    return SETTINGS._replace(resources=check_resources(FLAG, text))


# Quantities


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("100m", "0.1"),
        ("0.1", "0.1"),
        (".5", "0.5"),
        ("1.", 1),
        ("+2", 2),
        ("64Mi", 64 * 1024**2),
        ("64M", 64 * 1000**2),
        ("1k", 1000),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1Ei", 1024**6),
        ("12e-3", "0.012"),
        ("5n", "5e-9"),
        (2, 2),
        (0.5, "0.5"),
    ],
)
def test_quantity_is_parsed_as_in_kubernetes(text: Any, amount: Any) -> None:
    assert read_quantity(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1 Mi",
        "64MB",
        "1K",
        "1ki",
        "1e",
        "1ei",
        "Mi",
        "1e99",
        "10Ei",
        "1,5",
        "½",
        "٣",
        True,
        None,
        [],
        float("nan"),
    ],
)
def test_malformed_quantity_is_rejected(text: Any) -> None:
    with pytest.raises(ValueError, match="quantity"):
        read_quantity(text)


# The flag for the resources


@pytest.mark.parametrize(
    "text", [json.dumps(RESOURCES), "limits: {cpu: 1, memory: 64Mi}", "{}", "{requests: {cpu: .5}}"]
)
def test_resources_in_json_and_yaml_are_accepted(text: str) -> None:
    found = check_resources(FLAG, text)
    assert resources_of(pod(), SETTINGS._replace(resources=found)) == found


WRONG = {
    "": "is '', which is not a mapping",
    "{": "is '{', which is not JSON or YAML",
    '{"limits": {"memory": "64Mi"}, "limits": {}}': "the key 'limits' appears twice",
    '{"limits": {"memory": 64Mi, "memory": 1Mi}}': "the key 'memory' appears twice",
    '{"limits": &a {"memory": *a}}': "contains itself by an alias",
    '{"limits": {"memory": !!int x}}': "not valid YAML (ValueError)",
    r'{"limits": {"memory": "\UFFFFFFFF"}}': f"not valid YAML ({BEYOND_UNICODE})",
    "[]": "is '[]'",
    "requests: 5": "is 'requests: 5'",
    "request: {cpu: 1}": "has 'request', which is neither requests nor limits",
    "limits: {mem: 1Gi}": "has limits.mem, which the sidecar does not use. Use cpu, memory or ephemeral-storage.",
    "limits: {nvidia.com/gpu: 1}": "has limits.nvidia.com/gpu",
    "requests: {cpu: lots}": "has requests.cpu 'lots', which is not a quantity",
    "requests: {cpu: -1}": "has requests.cpu '-1', which is not a quantity",
    "requests: {cpu: [1]}": "has requests.cpu 'list', which is not a quantity",
    "requests: {memory: 40MB}": "has requests.memory '40MB', which is not a quantity",
    "requests: {memory: 64m}": "has requests.memory '64m', which is a fraction of its unit 1",
    "requests: {cpu: 0.0001}": "has requests.cpu '0.0001', which is a fraction of its unit 1m",
    "limits: {memory: 64}": "has limits.memory '64', with which the sidecar never starts. Set at least 16Mi.",
    "{requests: {memory: 80Mi}, limits: {memory: 64Mi}}": (
        "has limits.memory 64Mi, which is less than requests.memory 80Mi"
    ),
    "requests: {cpu: 1}" + " " * 1000: "has 1018 characters",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_resources_are_rejected_with_a_message(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_resources(FLAG, text)
    assert caught.value.setting == FLAG
    assert caught.value.fix
    assert str(caught.value).startswith(f"{FLAG} ")
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40) | st.sampled_from(["a: &a [*a]", "{[]: 1}", "? {}", "1: {2: 3}", "requests: {null: 1}"]))
def test_any_text_is_accepted_or_rejected_with_a_message(text: str) -> None:
    try:
        check_resources(FLAG, text)
    except ConfigurationError as error:
        assert str(error).startswith(FLAG)  # noqa: PT017  either is right


# The QoS class of the Pod


def qos(original: Document) -> str:
    """Return the QoS class as in pkg/apis/core/v1/helper/qos of Kubernetes. Missing requests equal the limits."""
    containers = [*original["spec"].get("initContainers", ()), *original["spec"]["containers"]]
    parts = [each.get("resources", {}) for each in containers]
    amounts = [
        {
            name: read_quantity(part.get(kind, {}).get(name, part.get("limits", {}).get(name, 0)))
            for name in ("cpu", "memory")
        }
        for part in parts
        for kind in ("requests", "limits")
    ]
    if not any(any(each.values()) for each in amounts):
        return "BestEffort"
    is_limited = all(each[name] for each in amounts[1::2] for name in ("cpu", "memory"))
    is_equal = all(a == b for a, b in zip(amounts[::2], amounts[1::2], strict=True))
    return "Guaranteed" if is_limited and is_equal else "Burstable"


@pytest.mark.parametrize("settings", [SETTINGS, PLAIN, with_resources("requests: {cpu: 5m}"), with_resources("{}")])
@pytest.mark.parametrize(
    "resources",
    [LIMITS, {"requests": {"cpu": "1000m", "memory": "1024Mi"}, **LIMITS}, {"limits": {"cpu": 2, "memory": 10**9}}],
)
def test_guaranteed_pod_stays_guaranteed(settings: Settings, resources: Document) -> None:
    migrate = {"name": "migrate", "image": "m", "resources": LIMITS}
    original = pod({"name": "app", "image": "a", "resources": resources}, initContainers=[migrate])
    assert qos(original) == "Guaranteed"
    injected = inject(original, ACCOUNT, settings).pod
    assert qos(injected) == "Guaranteed"
    both = {"cpu": "100m", "memory": "64Mi"}
    assert container(injected, "irsa-sidecar")["resources"] == {"requests": both, "limits": both}


NOT_GUARANTEED: list[Any] = [
    {},
    None,
    "x",
    {"limits": {"cpu": "1"}},
    {"limits": {"memory": "1Gi"}},
    {"limits": {"cpu": "0", "memory": "1Gi"}},
    {"limits": {"cpu": "1", "memory": "x"}},
    {"limits": ["cpu"]},
    {**LIMITS, "requests": {"cpu": "500m"}},
    {**LIMITS, "requests": {"cpu": "0"}},
    {**LIMITS, "requests": ["cpu"]},
]


@pytest.mark.parametrize("resources", NOT_GUARANTEED)
@pytest.mark.parametrize("place", ["containers", "initContainers"])
def test_sidecar_has_no_cpu_limit_if_pod_is_not_guaranteed(place: str, resources: Any) -> None:
    original = pod(GUARANTEED, initContainers=[])
    original["spec"][place] = [*original["spec"][place], {"name": "other", "image": "o", "resources": resources}]
    assert resources_of(original) == RESOURCES


def test_sidecar_has_no_resources_if_the_pod_has_its_own() -> None:
    """Set resources of the Pod itself. tests/cluster/test_manifests.py shows the reason with a real API server."""
    for of_operator in (SETTINGS, with_resources("requests: {cpu: 1}")):
        assert resources_of(pod(GUARANTEED, resources=LIMITS), of_operator) == {}


def test_guaranteed_sidecar_uses_the_operators_resources() -> None:
    of_operator = with_resources("{requests: {cpu: 20m, memory: 40Mi}, limits: {cpu: 250m, memory: 96Mi}}")
    both = {"cpu": "250m", "memory": "96Mi"}
    assert resources_of(pod(GUARANTEED), of_operator) == {"requests": both, "limits": both}
    larger = with_resources("{requests: {cpu: 200m, memory: 80Mi, ephemeral-storage: 1Mi}}")
    both = {"cpu": "200m", "memory": "80Mi"}
    assert resources_of(pod(GUARANTEED), larger) == {"requests": {**both, "ephemeral-storage": "1Mi"}, "limits": both}


def test_pod_that_is_no_longer_guaranteed_has_the_usual_sidecar() -> None:
    once = inject(pod(GUARANTEED), ACCOUNT, SETTINGS).pod
    assert resources_of(once)["limits"]["cpu"] == "100m"
    once["spec"]["containers"][0]["resources"] = {}
    assert resources_of(once) == RESOURCES
