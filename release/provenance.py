"""
State how artefacts were built, as in-toto statements.

Sources: in-toto Statement v1 (https://in-toto.io/Statement/v1), SLSA provenance v1 (https://slsa.dev/spec/v1.1/provenance).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from release.source import URL, Source

STATEMENT = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
CYCLONEDX = "https://cyclonedx.org/bom"

BUILD_TYPE = f"{URL}/blob/main/docs/verify.md#how-a-release-is-built"
"""Page that describes the parameters of a build, as SLSA requires."""

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """An artefact: a name, and the SHA-256 of a file or a manifest in hexadecimal."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Base:
    """A base image, and the digest that it had in this build."""

    architecture: str
    name: str
    digest: str


def statement(subjects: Iterable[Subject], predicate_type: str, predicate: Document) -> Document:
    """Return the statement that is signed."""
    named = [{"name": subject.name, "digest": {"sha256": subject.sha256}} for subject in subjects]
    return {"_type": STATEMENT, "subject": named, "predicateType": predicate_type, "predicate": predicate}


def provenance(source: Source, bases: Iterable[Base], builder: str) -> Document:
    """Return the predicate: the commit, the base images and the builder."""
    commit = {"uri": f"git+{URL}@{source.revision}", "digest": {"gitCommit": source.revision}}
    images = [
        {"uri": f"docker://{base.name}", "digest": _digest(base), "annotations": {"architecture": base.architecture}}
        for base in bases
    ]
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"repository": URL, "version": source.version},
        "internalParameters": {"SOURCE_DATE_EPOCH": str(source.epoch)},
        "resolvedDependencies": [commit, *images],
    }
    return {"buildDefinition": definition, "runDetails": {"builder": {"id": builder}, "metadata": {}}}


def _digest(base: Base) -> dict[str, str]:
    algorithm, _, value = base.digest.partition(":")
    return {algorithm: value}
