"""
Push a release to a registry, with signatures that clients find beside the images.

Images, their signatures and the chart are OCI artefacts. Signatures and lists of packages refer to the digest of their
image (OCI distribution specification 1.1, referrers). The chart also has a signature of Helm, its provenance file.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from release import artefacts
from release.oci_layout import ReadImage, read_layout
from release.provenance import SPDX
from release.signing import TYPES, Signer


@dataclass(frozen=True)
class Registry:
    """A registry with the folder for images and chart, and the programs that push. Only tests use `plain_http`."""

    address: str
    crane: Path
    helm: Path
    plain_http: bool = False

    @property
    def repository(self) -> str:
        """Return the name of the images without a tag."""
        return f"{self.address}/irsa-sidecar"

    @property
    def cosign_flags(self) -> list[str]:
        """Return the flags with which cosign connects to the registry."""
        return ["--allow-http-registry"] if self.plain_http else []


def publish(folder: Path, version: str, registry: Registry, signer: Signer) -> list[str]:
    """Push the images and the chart to a registry, and sign them. Return their names with their digests."""
    images = [_publish_image(folder, tag, registry, signer) for tag in artefacts.tags(version)]
    return [*images, publish_chart(folder / artefacts.chart(version), registry, signer)]


def publish_chart(archive: Path, registry: Registry, signer: Signer) -> str:
    """
    Push the chart, sign it, and return its reference in the registry.

    The signature is for the digest that Helm pushed, because somebody else could change the chart of the tag meanwhile.
    """
    plain = ["--plain-http"] if registry.plain_http else []
    shown = _run([str(registry.helm), "push", str(archive), f"oci://{registry.address}/charts", *plain])
    (digest,) = re.findall(r"^Digest: (sha256:[0-9a-f]{64})$", shown, re.MULTILINE)
    reference = f"{registry.address}/charts/irsa-sidecar@{digest}"
    signer.run("sign", *registry.cosign_flags, reference)
    return reference


def push_image(crane: Path, archive: Path, repository: str) -> tuple[str, ReadImage]:
    """Push the image under its tag. Return its name with the digest, and the image."""
    image = read_layout(archive.read_bytes())
    with tempfile.TemporaryDirectory() as layout:
        _run(["tar", "--extract", f"--file={archive}", f"--directory={layout}"])
        _run([str(crane), "push", layout, f"{repository}:{image.tag}"])
    return f"{repository}@{image.index.digest}", image


def _publish_image(folder: Path, tag: str, registry: Registry, signer: Signer) -> str:
    """
    Push the image, and return its reference in the registry.

    The index and each platform are signed. The list of packages of each platform is attached.
    """
    reference, image = push_image(registry.crane, folder / artefacts.image(tag), registry.repository)
    signer.run("sign", "--recursive", *registry.cosign_flags, reference)
    for platform in image.platforms:
        document = folder / artefacts.sbom(tag, platform.platform["architecture"], "spdx.json")
        named = f"{registry.repository}@{platform.manifest.digest}"
        signer.run("attest", f"--type={TYPES[SPDX]}", f"--predicate={document}", *registry.cosign_flags, named)
    return reference


def _run(command: list[str]) -> str:
    """Return the output of the program. Its errors go to stderr."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
