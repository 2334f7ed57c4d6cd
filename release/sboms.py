"""
List the packages of an image with syft, as SPDX and CycloneDX.

Syft writes the current time and random identifiers into its documents. This module replaces the time by that of the
commit, and the identifiers by values from the image's digest, so that the same image has the same documents.
"""

import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.oci import PlatformImage, encoded, instant, layout
from release.provenance import CYCLONEDX, SPDX
from release.source import URL

CATALOGERS = ("dpkg-db-cataloger", "python-installed-package-cataloger", "binary-classifier-cataloger")
"""Debian's packages, Python's packages, and the interpreter of a base image that compiles its own."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Scan:
    """An image for one platform, with the name, the version and the time for its bills of materials."""

    image: PlatformImage
    name: str
    version: str
    epoch: int


@dataclass(frozen=True)
class Format:
    """A format of bills of materials: syft's name, the type of its statements, and its fixed values."""

    syft: str
    predicate_type: str
    fix: Callable[[Document, Scan], Document]


def scan(syft: Path, scanned: Scan) -> Mapping[str, bytes]:
    """Return a document for each format, by the end of its file's name."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "image.tar")
        archive.write_bytes(layout(scanned.image.manifest, [scanned.image], scanned.version, scanned.epoch))
        outputs = {end: Path(folder, end) for end in FORMATS}
        _run_syft(syft, archive, scanned, outputs)
        found = {end: parse(path.read_bytes()) for end, path in outputs.items()}
    return {end: encoded(FORMATS[end].fix(document, scanned)) for end, document in found.items()}


def parse(document: bytes) -> Document:
    """Parse a document of either format, which is a JSON object."""
    found: Document = json.loads(document)
    return found


def _run_syft(syft: Path, archive: Path, scanned: Scan, outputs: Mapping[str, Path]) -> None:
    named = [f"--source-name={scanned.name}", f"--source-version={scanned.version}"]
    chosen = [f"--override-default-catalogers={','.join(CATALOGERS)}"]
    written = [f"--output={FORMATS[end].syft}={path}" for end, path in outputs.items()]
    command = [str(syft), "scan", "--quiet", *named, *chosen, *written, f"oci-archive:{archive}"]
    subprocess.run(command, env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"}, check=True)


def _fix_spdx(document: Document, scanned: Scan) -> Document:
    created = {**document["creationInfo"], "created": instant(scanned.epoch)}
    namespace = f"{URL}/sbom/{scanned.image.manifest.digest}"
    return {**document, "documentNamespace": namespace, "creationInfo": created}


def _fix_cyclonedx(document: Document, scanned: Scan) -> Document:
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{URL}/sbom/{scanned.image.manifest.digest}")
    metadata = {**document["metadata"], "timestamp": instant(scanned.epoch)}
    return {**document, "serialNumber": f"urn:uuid:{serial}", "metadata": metadata}


FORMATS: Mapping[str, Format] = {
    "spdx.json": Format("spdx-json", SPDX, _fix_spdx),
    "cdx.json": Format("cyclonedx-json", CYCLONEDX, _fix_cyclonedx),
}
"""Formats by the end of the name of their files."""
