"""Check that the reference has every label and annotation of injection, with values that the parser accepts."""

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml

import sidecar.injection
from sidecar.errors import ConfigurationError
from sidecar.injection.inject import inject
from sidecar.injection.names import ANNOTATIONS, INJECT_LABEL, INJECT_TRUE, ROLES, SERVICE_ACCOUNT_ANNOTATIONS
from sidecar.injection.settings import ServiceAccount
from tests.docs.reference.annotation_notes import (
    INJECT,
    OF_THE_POD,
    OF_THE_SERVICE_ACCOUNT,
    SET_OR_CHECKED,
    AnnotationNote,
)
from tests.docs.reference.annotations import SERVICE_ACCOUNT, SETTINGS
from tests.docs.reference.pages import path_of

_NAME = re.compile(r"(?:irsa-sidecar\.io|eks\.amazonaws\.com|(?:kubectl\.)?kubernetes\.io)/[a-z][\w./-]*")


def test_every_annotation_is_described() -> None:
    assert list(OF_THE_POD) == list(ANNOTATIONS)
    assert list(OF_THE_SERVICE_ACCOUNT) == list(SERVICE_ACCOUNT_ANNOTATIONS)


def test_every_name_in_the_code_is_on_the_page() -> None:
    assert set(_names_in_code()) == {INJECT_LABEL, *OF_THE_POD, *OF_THE_SERVICE_ACCOUNT, *SET_OR_CHECKED}


def _names_in_code() -> Iterator[str]:
    """Yield the names of labels and annotations among the constants of the package."""
    for found in iter_modules(sidecar.injection.__path__, "sidecar.injection."):
        for value in vars(import_module(found.name)).values():
            if isinstance(value, str) and _NAME.fullmatch(value):
                yield value


def injected(
    annotations: dict[str, str], *, label: str = INJECT_TRUE, service_account: ServiceAccount = SERVICE_ACCOUNT
) -> dict[str, Any]:
    """
    Return a Pod with these annotations after injection.

    Raises ConfigurationError if an annotation is invalid.
    """
    containers = [{"name": name, "image": "app"} for name in ("web", "worker", "proxy", "exporter")]
    metadata = {"labels": {INJECT_LABEL: label}, "annotations": annotations}
    return inject({"metadata": metadata, "spec": {"containers": containers}}, service_account, SETTINGS).pod


@pytest.mark.parametrize(("name", "note"), OF_THE_POD.items())
def test_pod_annotation_accepts_only_valid_values(name: str, note: AnnotationNote) -> None:
    assert injected({name: note.example}) != injected({})
    assert note.rejected is not None
    with pytest.raises(ConfigurationError):
        injected({name: note.rejected})


@pytest.mark.parametrize(("name", "note"), OF_THE_SERVICE_ACCOUNT.items())
def test_service_account_annotation_accepts_only_valid_values(name: str, note: AnnotationNote) -> None:
    def with_value(value: str) -> ServiceAccount:
        return SERVICE_ACCOUNT._replace(annotations={**SERVICE_ACCOUNT.annotations, name: value})

    injected({}, service_account=with_value(note.example))
    if note.rejected is not None:
        with pytest.raises(ConfigurationError):
            injected({}, service_account=with_value(note.rejected))


def test_inject_label_accepts_only_valid_values() -> None:
    injected({}, label=INJECT.example)
    with pytest.raises(ConfigurationError):
        injected({}, label=str(INJECT.rejected))


def test_examples_on_the_page_are_yaml_with_string_values() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", path_of("annotations").read_text(encoding="utf-8"), re.DOTALL)
    values = {
        name: value for block in blocks for each in yaml.safe_load(block).values() for name, value in each.items()
    }
    assert set(values) == {INJECT_LABEL, *OF_THE_POD, *OF_THE_SERVICE_ACCOUNT}
    assert {type(value) for value in values.values()} == {str}
    assert values[ROLES] == OF_THE_POD[ROLES].example
