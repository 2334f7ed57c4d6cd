"""Test the comparison of an image with its list of packages."""

from typing import Any

import pytest

from release.archive import Entry
from release.contents import Package, UnknownComponentError, differences, installed, listed, wheel_digest

SITE = "opt/irsa-sidecar/lib/python3.13/site-packages"

FILES = [
    Entry("var/lib/dpkg/status.d/zlib1g", b"Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.3+x-1\n"),
    Entry(
        f"{SITE}/python_dateutil-2.9.0.dist-info/METADATA",
        b"Metadata-Version: 2.1\nName: python.dateutil\nVersion: 2.9.0\n",
    ),
    Entry(f"{SITE}/trio/METADATA", b"Name: not-a-package\nVersion: 1\n"),
    Entry("usr/local/bin/python3.13", b"ELF"),
    Entry("usr/share/doc/zlib1g/copyright", b"text"),
]

THERE = {
    Package("deb", "zlib1g", "1:1.3+x-1"),
    Package("pypi", "python-dateutil", "2.9.0"),
    Package("generic", "python", "3.13"),
}

URLS = ["pkg:deb/debian/zlib1g@1%3A1.3%2Bx-1?arch=amd64", "pkg:pypi/python-dateutil@2.9.0", "pkg:generic/python@3.13.5"]


def cyclonedx(*urls: str) -> dict[str, Any]:
    others = [{"type": "file", "name": "/etc/x"}, {"type": "operating-system", "name": "debian"}]
    return {"bomFormat": "CycloneDX", "components": [{"type": "library", "name": u, "purl": u} for u in urls] + others}


def spdx(*urls: str) -> dict[str, Any]:
    packages = [
        {"name": u, "externalRefs": [{"referenceType": "cpe23Type", "referenceLocator": "cpe"},
                                     {"referenceType": "purl", "referenceLocator": u}]}
        for u in urls
    ]  # fmt: skip
    return {"spdxVersion": "SPDX-2.3", "packages": [*packages, {"name": "x", "primaryPackagePurpose": "CONTAINER"}]}


def test_image_records_packages_of_debian_and_python() -> None:
    assert installed(FILES) == THERE


def test_image_records_the_wheel_that_was_installed() -> None:
    origin = Entry(
        f"{SITE}/irsa_sidecar-1.0.dist-info/direct_url.json", b'{"archive_info": {"hashes": {"sha256": "ab"}}}'
    )
    assert wheel_digest([*FILES, origin]) == "ab"
    assert wheel_digest(FILES) is None


@pytest.mark.parametrize("document", [cyclonedx(*URLS), spdx(*URLS)], ids=["cyclonedx", "spdx"])
def test_both_formats_list_the_same_packages(document: dict[str, Any]) -> None:
    assert listed(document) == THERE


def test_every_missing_or_additional_package_is_reported() -> None:
    named = listed(spdx(URLS[0].replace("1.3", "1.4"), *URLS[1:]))
    assert [sentence.split(" is in ")[1] for sentence in differences(THERE, named)] == [
        "the image but not in the list",
        "the list but not in the image",
    ]


@pytest.mark.parametrize("url", ["pkg:npm/left-pad@1.0.0", "a component without a package URL"])
@pytest.mark.parametrize("form", [cyclonedx, spdx])
def test_component_of_another_kind_is_an_error(form: Any, url: str) -> None:
    with pytest.raises(UnknownComponentError):
        listed(form(url))
