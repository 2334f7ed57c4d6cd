"""Check that the chart rejects wrong values with a message that contains the value's name."""

import json
import re
from contextlib import nullcontext
from typing import Any

import pytest
import yaml

from sidecar.injection.names import OUR_VARIABLES
from sidecar.injection.resources import read_quantity
from tests.chart.rendering import Helm
from tests.support.manifests import K8S

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replicaCount": 0}, "at '/replicaCount': minimum: got 0, want 1"),
    ({"replicaCount": "two"}, "at '/replicaCount': got string, want integer"),
    ({"enabled": False}, "at '/enabled': value must be true"),
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"region": ""}, "region is empty. Set region to"),
    ({"region": "Ireland!"}, "at '/region': 'Ireland!' does not match pattern"),
    ({"fullnameOverride": "irsa-sidecar-2"}, "fullnameOverride is irsa-sidecar-2. Choose a name that does not"),
    ({"fullnameOverride": "Webhook"}, "at '/fullnameOverride': 'Webhook' does not match pattern"),
    ({"image": {"repository": ""}}, "at '/image/repository': '' does not match pattern"),
    (
        {"image": {"repository": "r.example/a:1.0"}},
        "image.repository is r.example/a:1.0: it contains a tag or a digest.",
    ),
    ({"image": {"repository": "r.example:5000/A/"}}, "'r.example:5000/A/' does not match pattern"),
    (
        {"sidecar": {"image": {"repository": "a@sha256:12"}}},
        "sidecar.image.repository is a@sha256:12: it contains a tag",
    ),
    ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    ({"image": {"name": "x"}}, "at '/image': additional properties 'name' not allowed"),
    ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
    ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
    ({"sidecar": {"env": {"AWS_ROLE_ARN": "x"}}}, "AWS_ROLE_ARN"),
    ({"sidecar": {"env": {"AWS_USE_FIPS_ENDPOINT": True}}}, "AWS_USE_FIPS_ENDPOINT': got boolean, want string"),
    ({"sidecar": {"native": "no"}}, "at '/sidecar/native': value must be one of 'auto', 'always', 'never'"),
    (
        {"sidecar": {"resources": {"limits": {"mem": "64Mi"}}}},
        "at '/sidecar/resources/limits': additional properties 'mem' not allowed",
    ),
    (
        {"sidecar": {"resources": {"limits": {"memory": "64"}}}},
        "at '/sidecar/resources/limits/memory': '64' does not match pattern",
    ),
    (
        {"sidecar": {"resources": {"limits": {"memory": 64}}}},
        "at '/sidecar/resources/limits/memory': minimum: got 64",
    ),
    ({"resources": {"limits": {"memory": "64 MB"}}}, "at '/resources/limits/memory': '64 MB' does not match pattern"),
    ({"logLevel": "trace"}, "at '/logLevel': value must be one of 'debug', 'info'"),
    ({"failurePolicy": "fail"}, "at '/failurePolicy': value must be one of 'Fail', 'Ignore'"),
    ({"timeoutSeconds": 31}, "at '/timeoutSeconds': maximum: got 31, want 30"),
    ({"objectSelector": {"team": "shop"}}, "at '/objectSelector': additional properties 'team' not allowed"),
    (
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}},
        "at '/namespaceSelector/matchExpressions/0/operator': value must be one of 'In', 'NotIn'",
    ),
    ({"tolerations": [{"operators": "Exists"}]}, "at '/tolerations/0': additional properties 'operators' not allowed"),
    ({"podLabels": {"cost": 12}}, "at '/podLabels/cost': got number, want string"),
    ({"monitoring": True}, "at '/monitoring': got boolean, want object"),
    ({"monitoring": {"podMonitor": {"interval": 30}}}, "at '/monitoring/podMonitor/interval': got number, want string"),
    ({"extraArgs": "--log-level=debug"}, "at '/extraArgs': got string, want array"),
    ({"extraArgs": ["--log-level=debug"]}, "extraArgs has --log-level=debug. Set logLevel instead."),
    ({"extraArgs": ["--admin-listen=:9080"]}, "extraArgs has --admin-listen=:9080. Set ports.admin instead, "),
    ({"extraArgs": ["--region=eu-west-2"]}, "extraArgs has --region=eu-west-2. Set region instead."),
    ({"extraArgs": ["--secret", "other"]}, "at '/extraArgs/1': 'other' does not match pattern"),
    (
        {"extraArgs": ["--secret=other"]},
        "extraArgs has --secret=other. Set fullnameOverride instead, because the rights",
    ),
    ({"extraArgs": ["--key-file=/tls.key"]}, "extraArgs has --key-file=/tls.key. Set certificate.from instead."),
    (
        {"certificate": {"from": "cert-manager"}, "extraVolumes": [{"name": "certificate", "emptyDir": {}}]},
        "extraVolumes has a volume named certificate, which is the name of the chart's own volume.",
    ),
    ({"extraVolumeMounts": [{"name": "ca", "mountPath": "etc"}]}, "'etc' does not match pattern"),
    ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    ({"ports": {"https": 443}}, "at '/ports/https': minimum: got 443, want 1,024"),
    ({"ports": {"metrics": 9090}}, "at '/ports': additional properties 'metrics' not allowed"),
    ({"ports": {"https": 8080}}, "ports.https and ports.admin are both 8080. Set different ports."),
    ({"hostNetwork": True, "ports": {"https": 10250}}, "ports.https is 10250, where kubelet or kube-proxy listen on"),
    ({"hostNetwork": "true"}, "at '/hostNetwork': got string, want boolean"),
    ({"networkPolicy": {"apiServerPorts": []}}, "at '/networkPolicy/apiServerPorts': minItems: got 0, want 1"),
    ({"networkPolicy": {"apiServerPorts": None}}, "at '/networkPolicy': missing property 'apiServerPorts'"),
    ({"networkPolicy": {"enabled": None}}, "at '/networkPolicy': missing property 'enabled'"),
    ({"rbac": {"create": None}}, "at '/rbac': missing property 'create'"),
    ({"podDisruptionBudget": {"minAvailable": 1}}, "podDisruptionBudget.maxUnavailable is 1 and podDisruption"),
    ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "'half' does not match pattern"),
    ({"podDisruptionBudget": {"maxUnavailable": -1}}, "maxUnavailable': minimum: got -1, want 0"),
    ({"networkPolicy": False}, "at '/networkPolicy': got boolean, want object"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name is empty. Set serviceAccount.name"),
    ({"certificate": {"from": "letsencrypt"}}, "at '/certificate/from': value must be one of 'self', 'cert-manager'"),
    ({"certificate": {"from": "existingSecret"}}, "Set certificate.existingSecret to the Secret's name"),
    ({"certificate": {"existingSecret": "tls"}}, "have no effect while certificate.from is self. Remove them"),
    (
        {"certificate": {"caBundle": "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"}},
        "certificate.caBundle contains a private key, which everybody",
    ),
    ({"certificate": {"caBundle": "/tmp/ca.pem"}}, "at '/certificate/caBundle': '/tmp/ca.pem' does not match pattern"),
    ({"certificate": {"issuerRef": {"name": "vault"}}}, "set certificate.from to cert-manager"),
    ({"certificate": {"from": "cert-manager", "issuerRef": {"kind": "ClusterIssuer"}}}, "issuerRef has no name"),
]

RENAMED = {
    "replicas": "replicaCount",
    "webhookImage": "image, and sidecar.image",
    "env": "sidecar.env",
    "metricsFrom": "networkPolicy.metricsFrom",
}
"""The names of values in earlier versions, each with the new names in the error message."""


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_invalid_value_is_rejected_with_its_name(helm: Helm, values: dict[str, Any], words: str) -> None:
    done = helm.template(values, check=False)
    assert done.returncode != 0
    assert words in done.stderr


NAMES = yaml.safe_load((K8S / "chart" / "values.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_value_of_null_is_accepted_or_its_name_is_in_the_error(helm: Helm, name: str) -> None:
    """Helm removes a value that is null, and also removes the default of this value."""
    done = helm.template({name: None}, check=False)
    assert done.returncode == 0 or f"missing property '{name}'" in done.stderr


@pytest.mark.parametrize("name", RENAMED)
def test_old_name_is_rejected_with_the_new_name(helm: Helm, name: str) -> None:
    done = helm.template({name: 3}, check=False)
    assert done.returncode != 0
    assert f"renamed: set {RENAMED[name]}" in done.stderr


@pytest.mark.parametrize("name", ["enabled", "labels"])
def test_error_for_an_old_monitoring_value_shows_the_new_names(helm: Helm, name: str) -> None:
    done = helm.template({"monitoring": {name: True}}, check=False)
    assert done.returncode != 0
    assert "monitoring.prometheusRule" in done.stderr


def test_schema_has_every_value_and_rejects_wrong_names() -> None:
    schema = json.loads((K8S / "chart" / "values.schema.json").read_text())
    values = yaml.safe_load((K8S / "chart" / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global", "enabled"} - RENAMED.keys() == values.keys()
    assert schema["additionalProperties"] is False
    variables = schema["properties"]["sidecar"]["properties"]["env"]["propertyNames"]["not"]["enum"]
    assert tuple(variables) == OUR_VARIABLES


QUANTITIES = ["0", "1", "2.", ".5", "0.05", "+1", "100m", "64Mi", "64M", "1e3", "1E+3", "1E", "5n", "1Ki"]
NO_QUANTITIES = ["", "64 Mi", "64MB", "64mi", "1 core", "-1", "1e", "Mi", "1.2.3", "1_000"]


@pytest.mark.parametrize("text", [*QUANTITIES, *NO_QUANTITIES])
def test_quantity_is_parsed_as_in_the_webhook(text: str) -> None:
    pattern = json.loads((K8S / "chart" / "values.schema.json").read_text())["definitions"]["quantity"]["pattern"]
    with nullcontext() if text in QUANTITIES else pytest.raises(ValueError, match="quantity"):
        read_quantity(text)
    assert (re.search(pattern, text) is not None) == (text in QUANTITIES)
