"""Test that docs/injection.md describes the code correctly."""

import json
import re
from pathlib import Path

import yaml

from sidecar.injection.app_container import OWN_CREDENTIALS, READ_WHEN_EMPTY
from sidecar.injection.inject import inject
from sidecar.injection.names import ADMIN_PORT, CREDENTIALS_PORT, INJECT_FALSE, INJECT_LABEL
from sidecar.injection.options import MAX_ROLES_CHARACTERS, MAX_ROLES_DEPTH
from sidecar.injection.resources import GUARANTEED_CPU, RESOURCES
from sidecar.injection.sidecar_container import LIVENESS_PROBE, STARTUP_PROBE
from sidecar.injection.warning import REASONS
from sidecar.webhook.service import PATH
from tests.support.manifests import read
from tests.unit.injection.pods import ACCOUNT, PLAIN, SETTINGS, pod

DOCUMENT = (Path(__file__).parents[3] / "docs" / "injection.md").read_text()
BLOCKS = [each for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL) for each in yaml.safe_load_all(block)]


def test_document_states_the_limits_of_the_roles_annotation() -> None:
    annotations = DOCUMENT.partition("## Annotations")[2].partition("\n## ")[0]
    assert f"at most {MAX_ROLES_CHARACTERS:,} characters" in annotations
    assert f"{MAX_ROLES_DEPTH} levels of YAML" in annotations


def test_table_contains_every_reason_of_a_warning() -> None:
    table = DOCUMENT.partition("## Warnings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(REASONS)


def test_table_contains_the_removed_empty_variables() -> None:
    table = DOCUMENT.partition("| empty variable |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(READ_WHEN_EMPTY)


def test_example_pod_is_injected() -> None:
    assert BLOCKS[0]["metadata"]["labels"] == {INJECT_LABEL: "true"}
    roles = BLOCKS[1]["metadata"]["annotations"]
    original = pod({"name": "app", "image": "a"}, {"name": "exporter", "image": "e"}, annotations=roles)
    assert "v1/credentials/reports" in str(inject(original, None, SETTINGS).pod["spec"]["containers"][1])


def test_example_container_can_use_the_metadata_service() -> None:
    (variable,) = next(block["env"] for block in BLOCKS if block.keys() == {"env"})
    result = inject(pod({"name": "app", "image": "a", "env": [variable]}), ACCOUNT, SETTINGS).pod
    assert result["spec"]["containers"][0]["env"][0] == variable


def test_document_shows_the_default_resources() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert json.loads(shown) == RESOURCES


def test_document_names_all_additions() -> None:
    added = {**RESOURCES["requests"], **RESOURCES["limits"], "cpu": RESOURCES["requests"]["cpu"]}
    for told in (
        *added.values(),
        GUARANTEED_CPU,
        " ".join(STARTUP_PROBE["exec"]["command"]),
        LIVENESS_PROBE["httpGet"]["path"],
    ):
        assert told in DOCUMENT
    for port in (CREDENTIALS_PORT, ADMIN_PORT):
        assert str(port) in DOCUMENT
    proxied = {"name": "app", "image": "a", "env": [{"name": "HTTP_PROXY", "value": "x"}]}
    service_account = ACCOUNT._replace(
        annotations={**ACCOUNT.annotations, "eks.amazonaws.com/sts-regional-endpoints": "true"}
    )
    for settings in (SETTINGS, PLAIN):
        result = inject(pod(proxied), service_account, settings).pod
        variables = {variable["name"] for variable in result["spec"]["containers"][-1]["env"]} - {"HTTP_PROXY"}
        volumes = {volume["name"] for volume in result["spec"]["volumes"]}
        for name in variables | volumes | set(result["metadata"]["annotations"]):
            assert f"`{name}`" in DOCUMENT, name
    for name in OWN_CREDENTIALS:
        assert f"`{name}`" in DOCUMENT or name.startswith("AWS_CONTAINER_"), name


def test_webhook_configuration_selects_labelled_pods() -> None:
    (configuration,) = read("webhook/configuration.yaml")
    (webhook,) = configuration["webhooks"]
    assert configuration["metadata"]["name"] == "irsa-sidecar"
    assert webhook["clientConfig"]["service"]["path"] == PATH
    assert webhook["objectSelector"]["matchExpressions"] == [
        {"key": INJECT_LABEL, "operator": "Exists"},
        {"key": INJECT_LABEL, "operator": "NotIn", "values": [INJECT_FALSE]},
    ]
    assert webhook["failurePolicy"] == "Fail"
