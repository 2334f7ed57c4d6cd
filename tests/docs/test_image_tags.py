"""Check that pages, help texts and manifests use images of this version, because readers can build this version."""

import re

import pytest

from sidecar import __version__
from tests.support.documents import ROOT, pages

NEXT = "0.2.0"
"""The newer release in the examples of docs/upgrade.md."""

_TAG = re.compile(r"irsa-sidecar:(\d+(?:\.\d+)*)")

FILES = [
    *pages(),
    *(
        str(path.relative_to(ROOT))
        for pattern in ("sidecar/**/*.py", "k8s/**/*.yaml", "k8s/**/*.md", "docs/reference/*.md", "compose.yaml")
        for path in sorted(ROOT.glob(pattern))
    ),
]
"""The files that show image names to users."""


def tags(path: str) -> set[str]:
    """Return the tags of our images in the file."""
    return set(_TAG.findall((ROOT / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [path for path in FILES if tags(path)])
def test_image_tag_is_this_version(path: str) -> None:
    assert tags(path) == {NEXT if path == "docs/upgrade.md" else __version__}
