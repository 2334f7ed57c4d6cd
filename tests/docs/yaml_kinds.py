"""
Validate the YAML blocks of the documentation, each by its kind.

Rule: the fields of a whole object show its kind. A part of an object has the note `<!-- yaml: KIND -->`, with a key of
KINDS. Kubernetes objects and Pods must be valid in every Kubernetes version since 1.29 that has their kind.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from sidecar import strict_yaml
from sidecar.audit.accepted import FILE, read_acceptances
from sidecar.audit.rules.all import RULES
from sidecar.config.roles_file import parse_roles
from sidecar.local.config import parse_config
from sidecar.role import RoleDefaults
from tests.docs.schemas import local, roles
from tests.support.kubernetes_versions import check as check_version
from tests.support.kubernetes_versions import is_builtin, versions_of
from tests.support.manifests import K8S

_KUSTOMIZE_KEYS = frozenset(
    {
        "apiVersion",
        "commonAnnotations",
        "components",
        "configMapGenerator",
        "generatorOptions",
        "images",
        "kind",
        "labels",
        "namePrefix",
        "nameSuffix",
        "namespace",
        "patches",
        "replacements",
        "replicas",
        "resources",
        "secretGenerator",
    }
)
_COMPOSE_KEYS = frozenset({"configs", "name", "networks", "secrets", "services", "volumes"})


def check_object(document: Mapping[str, Any]) -> None:
    """Validate one Kubernetes object. A custom resource needs a group, a kind and a name."""
    for version in versions_of(document["kind"]) if is_builtin(document) else ():
        check_version(document, version)
    assert document["kind"]
    assert document["metadata"].get("name") or document["metadata"].get("generateName")


def check_pod(part: Mapping[str, Any]) -> None:
    """Validate a part of a Pod or of a Pod template: its metadata, its spec or both."""
    metadata = {"name": "app", **part.get("metadata", {})}
    spec = {"containers": [], **part.get("spec", {})}
    check_object({"apiVersion": "v1", "kind": "Pod", **part, "metadata": metadata, "spec": spec})


def check_pod_spec(part: Mapping[str, Any]) -> None:
    check_pod({"spec": part})


def check_container(part: Mapping[str, Any]) -> None:
    check_pod({"spec": {"containers": [{"name": "app", **part}]}})


def check_kustomization(document: Mapping[str, Any]) -> None:
    assert set(document) <= _KUSTOMIZE_KEYS


def check_compose(document: Mapping[str, Any]) -> None:
    assert set(document) <= _COMPOSE_KEYS
    assert all(isinstance(service, dict) for service in document["services"].values())


def check_chart_values(document: Mapping[str, Any]) -> None:
    """Validate values of the chart, merged into its defaults, against its schema."""
    values = yaml.safe_load((K8S / "chart/values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((K8S / "chart/values.schema.json").read_text(encoding="utf-8"))
    Draft7Validator(schema).validate(_merged(values, document))


def check_texts(document: Mapping[str, Any]) -> None:
    """Validate labels or annotations, whose names and values must be strings."""
    assert document
    assert all(isinstance(text, str) for pair in document.items() for text in pair)


def check_roles(document: object) -> None:
    parse_roles(yaml.safe_dump(document), "roles.yaml", RoleDefaults(token_file="/token"))
    Draft202012Validator(roles.schema()).validate(document)


def check_local(document: object) -> None:
    parse_config(yaml.safe_dump(document), "local.yaml")
    Draft202012Validator(local.schema()).validate(document)


def check_accepted(document: object) -> None:
    """Validate a file of accepted findings. Each entry names an existing rule."""
    found = read_acceptances(yaml.safe_dump(document).encode(), FILE)
    assert found
    assert {each.rule for each in found} <= {rule.id for rule in RULES}


KINDS: dict[str, Callable[[Any], None]] = {
    "object": check_object,
    "pod": check_pod,
    "pod spec": check_pod_spec,
    "container": check_container,
    "kustomization": check_kustomization,
    "compose file": check_compose,
    "chart values": check_chart_values,
    "labels": check_texts,
    "annotations": check_texts,
    "roles file": check_roles,
    "local settings": check_local,
    "accepted findings": check_accepted,
}
"""The function that validates each kind, by the name in notes."""

_MARKS = {
    "apiVersion": "object",
    "services": "compose file",
    "patches": "kustomization",
    "components": "kustomization",
    "configMapGenerator": "kustomization",
    "accepted": "accepted findings",
}
"""The kind of a document, by a key that only documents of this kind have."""


def kind_of(document: Any) -> str:
    """
    Return the kind of a document whose block has no note.

    Raises ValueError if no field shows the kind.
    """
    keys = document if isinstance(document, dict) else {}
    if "kustomize.config.k8s.io" in keys.get("apiVersion", ""):
        return "kustomization"
    for key, kind in _MARKS.items():
        if key in keys:
            return kind
    raise ValueError(f"the block needs a note: <!-- yaml: KIND --> with one of {', '.join(KINDS)}")


def check(text: str, note: str | None = None) -> None:
    """
    Validate each document of a YAML block.

    Raises an error that describes the problem.
    """
    for part in _split(text):
        document = strict_yaml.load(part, "the block")
        KINDS[note or kind_of(document)](document)


def _split(text: str) -> list[str]:
    """Return the documents in a YAML stream."""
    parts = f"\n{text}".split("\n---\n")
    return [part for part in parts if part.strip()]


def _merged(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return under | {key: _merged(under.get(key), value) for key, value in over.items()}
