"""
Compare the packages in an image with those that a bill of materials lists.

The image is read here and not with syft, because a list cannot be checked with the program that wrote it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from typing import Any, NamedTuple
from urllib.parse import unquote

from release.archive import Entry

_DEBIAN = re.compile(r"var/lib/dpkg/status\.d/[^/]+")
_PYTHON = re.compile(r".+/site-packages/[^/]+\.dist-info/METADATA")
_ORIGIN = re.compile(r".+/site-packages/irsa_sidecar-[^/]+\.dist-info/direct_url\.json")
_INTERPRETER = re.compile(r"usr/(?:local/)?bin/python(?P<version>3\.\d+)")
_PURL = re.compile(r"pkg:(?P<kind>deb|pypi|generic)/(?:debian/)?(?P<name>[^/@]+)@(?P<version>[^?#]+)(?:\?.*)?")


class Package(NamedTuple):
    """A package with the type that it has in a package URL."""

    kind: str
    name: str
    version: str


class UnknownComponentError(Exception):
    """An error for an entry of a bill of materials that is not a package of Debian or Python."""


def installed(files: Iterable[Entry]) -> set[Package]:
    """Return Debian's and Python's packages that the files of an image record, and the Python interpreter."""
    return {package for file in files for package in _recorded(file)}


def listed(document: Mapping[str, Any]) -> set[Package]:
    """Return the packages in a bill of materials, SPDX or CycloneDX."""
    urls = _cyclonedx_urls(document) if "bomFormat" in document else _spdx_urls(document)
    return {_package(url) for url in urls}


def wheel_digest(files: Iterable[Entry]) -> str | None:
    """Return the SHA-256 of the wheel that pip installed into the image (PEP 610), or None if there is no record."""
    for file in files:
        if _ORIGIN.fullmatch(file.path):
            return str(json.loads(file.content)["archive_info"]["hashes"]["sha256"])
    return None


def differences(there: set[Package], named: set[Package]) -> Iterator[str]:
    """Yield a clause for each package that only the image or only the bill of materials has."""
    for package in sorted(there - named):
        yield f"{package.kind} package {package.name} {package.version} is in the image but not in the list"
    for package in sorted(named - there):
        yield f"{package.kind} package {package.name} {package.version} is in the list but not in the image"


def _recorded(file: Entry) -> Iterator[Package]:
    if _DEBIAN.fullmatch(file.path):
        headers = HeaderParser().parsestr(file.content.decode())
        yield Package("deb", headers["Package"], headers["Version"])
    elif _PYTHON.fullmatch(file.path):
        headers = HeaderParser().parsestr(file.content.decode())
        yield Package("pypi", _normalized(headers["Name"]), headers["Version"])
    elif (interpreter := _INTERPRETER.fullmatch(file.path)) and file.content:
        yield Package("generic", "python", interpreter["version"])


def _cyclonedx_urls(document: Mapping[str, Any]) -> Iterator[str]:
    for component in document["components"]:
        if component["type"] not in {"file", "operating-system"}:
            yield component.get("purl", component["name"])


def _spdx_urls(document: Mapping[str, Any]) -> Iterator[str]:
    for package in document["packages"]:
        if package.get("primaryPackagePurpose") not in {"CONTAINER", "OPERATING-SYSTEM"}:
            found = [
                ref["referenceLocator"] for ref in package.get("externalRefs", ()) if ref["referenceType"] == "purl"
            ]
            yield found[0] if found else package["name"]


def _package(url: str) -> Package:
    """
    Return the package with this package URL.

    For the interpreter, only the version of the language counts, because no file records more.

    Raises UnknownComponentError for other text.
    """
    found = _PURL.fullmatch(url)
    if found is None:
        raise UnknownComponentError(f"{url} is not a package of Debian or Python")
    version = unquote(found["version"])
    if found["kind"] == "generic":
        return Package("generic", found["name"], ".".join(version.split(".")[:2]))
    name = unquote(found["name"])
    return Package(found["kind"], _normalized(name) if found["kind"] == "pypi" else name, version)


def _normalized(name: str) -> str:
    """Return a Python package's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
