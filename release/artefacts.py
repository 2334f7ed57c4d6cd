"""Define the names of all files of a release, so that `build` and `check` agree."""

from collections.abc import Iterable, Iterator
from itertools import product

from release.checksums import NAME as CHECKSUMS
from release.images import TARGETS
from release.plugin import MANIFEST, archive_names
from release.sboms import FORMATS
from release.signing import SUFFIX

NOTES = "RELEASE_NOTES.md"


def packages(version: str) -> list[str]:
    return [f"irsa_sidecar-{version}-py3-none-any.whl", f"irsa_sidecar-{version}.tar.gz"]


def chart(version: str) -> str:
    return f"irsa-sidecar-{version}.tgz"


def chart_signature(version: str) -> str:
    return f"{chart(version)}.prov"


def tags(version: str) -> list[str]:
    return [f"{version}{suffix}" for suffix in TARGETS.values()]


def image(tag: str) -> str:
    return f"irsa-sidecar-{tag}.oci.tar"


def sbom(tag: str, architecture: str, end: str) -> str:
    return f"irsa-sidecar-{tag}-{architecture}.{end}"


def sboms(version: str, architectures: Iterable[str]) -> Iterator[str]:
    for tag, architecture, end in product(tags(version), architectures, FORMATS):
        yield sbom(tag, architecture, end)


def provenance(artefact: str) -> str:
    """Return the name of the statement on how the artefact was built."""
    return f"{artefact}.provenance{SUFFIX}"


def attestation(document: str) -> str:
    """Return the name of the signed statement that contains the document."""
    return f"{document}{SUFFIX}"


def artefacts(version: str) -> list[str]:
    """Return the names of all files that were built from source."""
    return [*packages(version), *archive_names(version), chart(version), *(image(tag) for tag in tags(version))]


def files(version: str, architectures: Iterable[str]) -> set[str]:
    """Return the names of all files of a release."""
    documents = list(sboms(version, architectures))
    signed = [*map(provenance, artefacts(version)), *map(attestation, [*documents, CHECKSUMS])]
    return {*artefacts(version), *documents, *signed, MANIFEST, chart_signature(version), NOTES, CHECKSUMS}
