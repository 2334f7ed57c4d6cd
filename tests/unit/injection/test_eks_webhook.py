"""Test the removal of the additions of Amazon's webhook."""

import jsonpatch
import pytest

from sidecar.injection.json_patch import json_patch
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from tests.support.fakes import amazons_webhook
from tests.unit.injection.pods import (
    AMAZONS_MOUNT,
    AMAZONS_VARIABLES,
    AMAZONS_VOLUME,
    ARN,
    PLAIN,
    POD_IDENTITY_MOUNT,
    POD_IDENTITY_VARIABLES,
    SETTINGS,
    P,
    app,
    container,
    injected,
    pod,
    variables,
)


def test_additions_of_the_eks_webhook_are_removed() -> None:
    named = [{"name": name, "value": value} for name, value in (("A", "1"), ("AWS_DEFAULT_REGION", "us-east-1"))]
    mutated = app(volumeMounts=[AMAZONS_MOUNT]) | {"env": [*named, *AMAZONS_VARIABLES]}
    result = injected(pod(mutated, volumes=[AMAZONS_VOLUME, {"name": "data", "emptyDir": {}}]))
    env_values = variables(container(result, "app"))
    assert not {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"} & set(env_values)
    assert env_values["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "aws-iam-token" not in str(result)
    assert result["spec"]["volumes"][0]["name"] == "data"


def test_additions_of_eks_pod_identity_are_removed() -> None:
    mutated = app(volumeMounts=[POD_IDENTITY_MOUNT]) | {"env": POD_IDENTITY_VARIABLES}
    found = container(injected(pod(mutated)), "app")
    assert variables(found)["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:4772/v1/credentials"
    assert [mount["name"] for mount in found["volumeMounts"]] == ["irsa-sidecar-authorization"]


def test_skipped_container_keeps_its_web_identity() -> None:
    mutated = {"name": "log", "image": "i", "env": AMAZONS_VARIABLES, "volumeMounts": [AMAZONS_MOUNT]}
    result = injected(pod(app(), mutated, volumes=[AMAZONS_VOLUME], annotations={f"{P}skip-containers": "log"}))
    assert container(result, "log") == mutated
    assert AMAZONS_VOLUME in result["spec"]["volumes"]


def test_web_identity_that_a_user_set_stays_unchanged() -> None:
    env = [
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/mine/token"},
        {"name": "AWS_ROLE_ARN", "value": ARN},
    ]
    mount = {"name": "mine", "mountPath": "/var/run/mine"}
    by_hand = {"name": "mine", "image": "i", "env": env, "volumeMounts": [mount]}
    assert container(injected(pod(by_hand, app())), "mine") == by_hand


def test_eks_skip_annotation_is_extended() -> None:
    result = injected(pod(annotations={"eks.amazonaws.com/skip-containers": "log, other"}))
    assert result["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "log, other,irsa-sidecar,app"


POD_IDENTITY = "eks.amazonaws.com/pod-identity"


def labels_of(found: Document) -> Document:
    return dict(found["metadata"]["labels"])


@pytest.mark.parametrize("labels", [None, {}, {"app": "cart"}, {POD_IDENTITY: "enabled"}])
@pytest.mark.parametrize("settings", [SETTINGS, PLAIN], ids=["native", "plain"])
@pytest.mark.parametrize("skipped", ["", "log", "app,log,setup"])
def test_pod_identity_label_is_removed_with_its_last_use(
    labels: Document | None, settings: Settings, skipped: str
) -> None:
    """`skipped` is the previous value of the annotation that excludes containers from Amazon's webhook."""
    original = pod(app(), {"name": "log", "image": "i"})
    original["metadata"] |= ({"labels": labels} if labels is not None else {}) | (
        {"annotations": {"eks.amazonaws.com/skip-containers": skipped}} if skipped else {}
    )
    amazons = amazons_webhook.mutated_for_pod_identity(original, region="eu-west-1")
    assert labels_of(amazons)[POD_IDENTITY] == "enabled"
    result = injected(amazons, settings)
    assert labels_of(result) == {name: value for name, value in (labels or {}).items() if name != POD_IDENTITY}
    assert "pod-identity" not in str(result)
    assert jsonpatch.apply_patch(amazons, json_patch(amazons, result)) == result


@pytest.mark.parametrize("annotation", ["skip-containers", "containers"])
@pytest.mark.parametrize("is_init", [False, True])
def test_pod_identity_label_stays_while_a_container_uses_it(annotation: str, is_init: bool) -> None:  # noqa: FBT001
    log: Document = {"name": "log", "image": "i"}
    annotations = {P + annotation: "log" if annotation == "skip-containers" else "app"}
    original = pod(app(), initContainers=[log], annotations=annotations) if is_init else pod(app(), log)
    original["metadata"]["annotations"] = annotations
    amazons = amazons_webhook.mutated_for_pod_identity(original, region="eu-west-1")
    result = injected(amazons)
    assert labels_of(result) == {POD_IDENTITY: "enabled"}
    assert container(result, "log") == container(amazons, "log")


@pytest.mark.parametrize("value", ["enabled", "disabled", "x"])
def test_pod_identity_label_that_a_user_set_stays(value: str) -> None:
    """Use a label without the volume. A user set this label, and a selector may need it."""
    original = pod()
    original["metadata"]["labels"] = {POD_IDENTITY: value}
    assert labels_of(injected(original)) == {POD_IDENTITY: value}
