"""Check the data in the documentation's pages: YAML by its kind, JSON and HCL by their syntax."""

import json

import hcl2
import jsonschema
import kubernetes_validate
import pytest

from sidecar.errors import ConfigurationError
from tests.docs.yaml_kinds import check
from tests.support.documents import Block, blocks, pages


def _blocks(language: str) -> list[Block]:
    return [block for page in pages() for block in blocks(page, language=language)]


@pytest.mark.parametrize("block", _blocks("yaml"), ids=str)
def test_yaml_block_is_valid(block: Block) -> None:
    if reason := block.notes.get("not checked"):
        assert len(reason.split()) > 2
        return
    check(block.text, block.notes.get("yaml"))


@pytest.mark.parametrize("block", _blocks("json"), ids=str)
def test_json_block_is_valid(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", _blocks("hcl"), ids=str)
def test_hcl_block_is_valid(block: Block) -> None:
    assert hcl2.loads(block.text)


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec: {containers: [{name: app}]}\n"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (POD, None),
        (f"{POD}---\n{POD}", None),
        ("metadata: {labels: {irsa-sidecar.io/inject: 'true'}}", "pod"),
        ("initContainers: [{name: irsa-sidecar, restartPolicy: Always}]", "pod spec"),
        ("resources: [app.yaml]\ncomponents: [../k8s/pod]", None),
        ("region: eu-west-1", "chart values"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: webhook}\n", None),
    ],
)
def test_valid_block_is_accepted(text: str, note: str | None) -> None:
    check(text, note)


@pytest.mark.parametrize(
    ("text", "note", "error"),
    [
        (POD.replace("name: app}]", "title: app}]"), None, kubernetes_validate.ValidationError),
        (POD.replace("kind: Pod", "kind: Pot"), None, kubernetes_validate.SchemaNotFoundError),
        (POD + POD.replace("app", "two"), None, ConfigurationError),
        ("a: 1", None, ValueError),
        ("a: 1", "colour", KeyError),
        ("initContainers: [{name: irsa-sidecar, restart: Always}]", "pod spec", kubernetes_validate.ValidationError),
        ("irsa-sidecar.io/inject: true", "labels", AssertionError),
        ("components: []\nresource: x", None, AssertionError),
        ("regoin: eu-west-1", "chart values", jsonschema.ValidationError),
        ("roles: [{name: a, role: b}]", "roles file", ConfigurationError),
        ("space: default", "local settings", ConfigurationError),
    ],
)
def test_invalid_block_is_rejected(text: str, note: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        check(text, note)
