"""
Push a release to a registry, with signatures that clients find beside the images.

Images, their signatures and the chart are OCI artefacts. Signatures and lists of packages refer to the digest of their
image (OCI distribution specification 1.1, referrers). The chart has its own signature, a provenance file of Helm.
"""

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


def publish(folder: Path, version: str, registry: Registry, signer: Signer) -> list[str]:
    """Push the images and the chart to a registry, and sign the images. Return the image names with their digests."""
    references = [_publish_image(folder, tag, registry, signer) for tag in artefacts.tags(version)]
    push = [str(registry.helm), "push", str(folder / artefacts.chart(version)), f"oci://{registry.address}/charts"]
    _run([*push, *(["--plain-http"] if registry.plain_http else [])])
    return references


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
    plain = ["--allow-http-registry"] if registry.plain_http else []
    signer.run("sign", "--recursive", *plain, reference)
    for platform in image.platforms:
        document = folder / artefacts.sbom(tag, platform.platform["architecture"], "spdx.json")
        named = f"{registry.repository}@{platform.manifest.digest}"
        signer.run("attest", f"--type={TYPES[SPDX]}", f"--predicate={document}", *plain, named)
    return reference


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
