"""Test the labels of an image, and the name and the digest of its base image."""

from pathlib import Path

import pytest

from release.images import LABEL, Engine, base_digest, base_in, labels
from release.source import URL, Source

SOURCE = Source(Path(), "0" * 40, 1_700_000_000, "1.2.3")

DIGEST = f"sha256:{'a' * 64}"


def names(base: str, digest: str = "") -> dict[str, str]:
    return {name.removeprefix(LABEL): value for name, value in labels(SOURCE, base, digest).items()}


def test_labels_link_the_image_with_its_source_and_base() -> None:
    found = names(f"python:3.13@{DIGEST}")
    assert found["source"] == found["url"] == URL
    assert found["documentation"] == f"{URL}/tree/v1.2.3/docs"
    assert (found["version"], found["revision"]) == ("1.2.3", "0" * 40)
    assert found["created"] == "2023-11-14T22:13:20Z"
    assert (found["base.name"], found["base.digest"]) == ("python:3.13", DIGEST)


def test_local_base_image_has_the_digest_from_the_engine() -> None:
    found = names("localhost/base:1", DIGEST)
    assert (found["base.name"], found["base.digest"]) == ("localhost/base:1", DIGEST)


def test_index_of_different_base_images_has_no_base_label() -> None:
    assert not {"base.name", "base.digest"} & names("localhost/base:1-{arch}").keys()


def test_base_image_with_a_digest_needs_no_engine() -> None:
    assert base_digest(Engine("/nonexistent", ""), f"python:3.13@{DIGEST}") == DIGEST


@pytest.mark.parametrize(("base", "expected"), [("base:{arch}", "base:arm64"), ("python:3.13", "python:3.13")])
def test_name_of_the_base_image_may_have_the_architecture(base: str, expected: str) -> None:
    assert Engine("podman", base).base_of("arm64") == expected


def test_base_image_is_read_from_the_dockerfile() -> None:
    assert base_in("# a comment\nARG BASE=python:3.13\nARG BUILD_BASE=${BASE}\n") == "python:3.13"
