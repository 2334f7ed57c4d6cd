"""
Sign all parts of a release.

Each artefact gets a statement on how it was built, each bill of materials becomes a statement about its image, and the
chart gets the file that `helm verify` reads. The list of checksums comes last, and covers everything.
"""

from collections.abc import Iterator
from pathlib import Path

from release import artefacts
from release.chart import sign_chart
from release.checksums import sha256, write_checksums
from release.images import LABEL
from release.oci_layout import ReadImage, config, read_layout
from release.provenance import SLSA as PROVENANCE
from release.provenance import Base, Subject, provenance, statement
from release.sboms import FORMATS, parse
from release.signing import Signer
from release.source import Source


def sign_release(source: Source, folder: Path, signer: Signer, chart_keys: Path, builder: str) -> None:
    """Write all signatures into the folder. `builder` is the URI of the builder, as SLSA defines it."""
    _attest_artefacts(source, folder, signer, builder)
    for tag in artefacts.tags(source.version):
        _attest_sboms(folder, tag, signer)
    sign_chart(folder / artefacts.chart(source.version), chart_keys)
    signer.sign(write_checksums(folder))


def image_subjects(image: ReadImage) -> Iterator[Subject]:
    """Yield the digests by which a registry names the image: of the index, and of each platform."""
    for blob in (image.index, *(platform.manifest for platform in image.platforms)):
        yield Subject(f"irsa-sidecar:{image.tag}", blob.digest.removeprefix("sha256:"))


def _attest_artefacts(source: Source, folder: Path, signer: Signer, builder: str) -> None:
    for name in artefacts.artefacts(source.version):
        image = read_layout((folder / name).read_bytes()) if name.endswith(".oci.tar") else None
        subjects = [Subject(name, sha256(folder / name)), *(image_subjects(image) if image else ())]
        predicate = provenance(source, _bases(image) if image else (), builder)
        signer.attest(statement(subjects, PROVENANCE, predicate), folder / artefacts.provenance(name))


def _attest_sboms(folder: Path, tag: str, signer: Signer) -> None:
    for platform in read_layout((folder / artefacts.image(tag)).read_bytes()).platforms:
        subject = Subject(f"irsa-sidecar:{tag}", platform.manifest.digest.removeprefix("sha256:"))
        for end, form in FORMATS.items():
            name = artefacts.sbom(tag, platform.platform["architecture"], end)
            made = statement([subject], form.predicate_type, parse((folder / name).read_bytes()))
            signer.attest(made, folder / artefacts.attestation(name))


def _bases(image: ReadImage) -> Iterator[Base]:
    for platform in image.platforms:
        found = config(platform)["config"]["Labels"]
        yield Base(platform.platform["architecture"], found[f"{LABEL}base.name"], found[f"{LABEL}base.digest"])
