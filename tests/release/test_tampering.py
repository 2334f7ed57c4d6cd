"""
Test that a changed release is rejected.

The list of checksums detects every change of a file. Most tests sign a new list with the valid key, as an attacker with
the key could. Then only the other steps of the verification can detect the change.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release import artefacts
from release.archive import Entry, compress, entries, tar
from release.chart import sign_chart
from release.check import RejectedError, Release, verify
from release.checksums import NAME, OUTSIDE, sha256, write_checksums
from release.go_programs import COSIGN, built
from release.keys import create_trial_keys
from release.oci import SavedImage, encoded, image_index, layout, platform_image
from release.oci_layout import config, layers, read_layout
from release.provenance import SLSA, SPDX, Subject, provenance, statement
from release.signing import SUFFIX, Signer, trust_key
from release.source import Source

Edit = Callable[[Release, Signer], None]


def write(path: Path, content: bytes) -> None:
    """Replace the file, because it is a link to the file in dist/."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def run_image(release: Release) -> Path:
    return release.path(artefacts.image(artefacts.tags(release.version)[0]))


def run_sbom(release: Release) -> Path:
    tag = artefacts.tags(release.version)[0]
    return release.path(artefacts.sbom(tag, release.architectures[0], "spdx.json"))


def change_layer(release: Release, _: Signer) -> None:
    archive = run_image(release)
    layer = read_layout(archive.read_bytes()).platforms[0].layers[0].content
    content = archive.read_bytes()
    write(archive, flipped(content, content.index(layer) + len(layer) // 2))


def change_manifest(release: Release, _: Signer) -> None:
    archive = run_image(release)
    manifest = read_layout(archive.read_bytes()).platforms[0].manifest.content
    content = archive.read_bytes()
    write(archive, flipped(content, content.index(manifest) + len(manifest) - 2))


def add_a_file_to_the_image(release: Release, _: Signer) -> None:
    """Add a file to the image. The layout stays consistent."""
    archive = run_image(release)
    image = read_layout(archive.read_bytes())
    changed = [_with_a_file(platform) for platform in image.platforms]
    write(archive, layout(image_index(changed, {}), changed, image.tag, 1))


def _with_a_file(platform: Any) -> Any:
    found = config(platform)
    plain = [tar([*entries(layer), Entry("usr/bin/backdoor", b"x", 0o755)], 1) for layer in layers(platform)]
    return platform_image(SavedImage(found, plain), found["config"]["Labels"], 1)


def remove_a_platform(release: Release, _: Signer) -> None:
    archive = run_image(release)
    image = read_layout(archive.read_bytes())
    write(archive, layout(image_index(image.platforms[1:], {}), image.platforms[1:], image.tag, 1))


def attest_another_image(release: Release, signer: Signer) -> None:
    """Sign a statement on a changed image. Only the statements on its packages are then missing."""
    add_a_file_to_the_image(release, signer)
    _attest(release, signer, run_image(release), read_layout(run_image(release).read_bytes()).index.digest)


def _attest(release: Release, signer: Signer, path: Path, *digests: str, revision: str = "") -> None:
    source = Source(Path(), revision or _revision(release), 1, release.version)
    others = [Subject("image", digest.removeprefix("sha256:")) for digest in digests]
    made = statement([Subject(path.name, sha256(path)), *others], SLSA, provenance(source, (), "https://example.com"))
    bundle = release.path(artefacts.provenance(path.name))
    bundle.unlink()
    signer.attest(made, bundle)


def _revision(release: Release) -> str:
    labels = config(read_layout(run_image(release).read_bytes()).platforms[0])["config"]["Labels"]
    return str(labels["org.opencontainers.image.revision"])


def remove_a_package_from_the_sbom(release: Release, _: Signer) -> None:
    document = json.loads(run_sbom(release).read_bytes())
    write(run_sbom(release), encoded({**document, "packages": document["packages"][1:]}))


def sign_an_incomplete_sbom(release: Release, signer: Signer) -> None:
    remove_a_package_from_the_sbom(release, signer)
    _attest_sbom(release, signer)


def sign_an_sbom_with_another_package(release: Release, signer: Signer) -> None:
    document = json.loads(run_sbom(release).read_bytes())
    reference = {"referenceType": "purl", "referenceLocator": "pkg:pypi/left-pad@1.0"}
    more = [*document["packages"], {"name": "left-pad", "externalRefs": [reference]}]
    write(run_sbom(release), encoded({**document, "packages": more}))
    _attest_sbom(release, signer)


def _attest_sbom(release: Release, signer: Signer) -> None:
    path = run_sbom(release)
    digest = read_layout(run_image(release).read_bytes()).platforms[0].manifest.digest.removeprefix("sha256:")
    bundle = release.path(artefacts.attestation(path.name))
    bundle.unlink()
    signer.attest(statement([Subject("image", digest)], SPDX, json.loads(path.read_bytes())), bundle)


def swap_statements_of_packages(release: Release, _: Signer) -> None:
    one, two = (release.path(artefacts.provenance(name)) for name in artefacts.packages(release.version))
    first, second = one.read_bytes(), two.read_bytes()
    write(one, second)
    write(two, first)


def change_the_payload_of_a_statement(release: Release, _: Signer) -> None:
    bundle = release.path(artefacts.provenance(artefacts.chart(release.version)))
    document = json.loads(bundle.read_bytes())
    payload = document["dsseEnvelope"]["payload"]
    document["dsseEnvelope"]["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    write(bundle, encoded(document))


def name_another_commit(release: Release, signer: Signer) -> None:
    path = release.path(artefacts.packages(release.version)[0])
    _attest(release, signer, path, revision="0" * 40)


def change_wheel(release: Release, _: Signer) -> None:
    path = release.path(artefacts.packages(release.version)[0])
    write(path, path.read_bytes() + b"\0")


def attest_another_wheel(release: Release, signer: Signer) -> None:
    """Sign a statement on a changed wheel. Only the comparison with the image can then detect the change."""
    change_wheel(release, signer)
    _attest(release, signer, release.path(artefacts.packages(release.version)[0]))


def change_sdist(release: Release, _: Signer) -> None:
    path = release.path(artefacts.packages(release.version)[1])
    write(path, compress(tar([*entries(path.read_bytes()), Entry("setup.py", b"import os")], 1)))


def change_chart(release: Release, _: Signer) -> None:
    path = release.path(artefacts.chart(release.version))
    write(path, compress(tar(entries(path.read_bytes()), 1)))


def attest_another_chart(release: Release, signer: Signer) -> None:
    """Sign a statement on a changed chart. Only Helm's signature file can then detect the change."""
    change_chart(release, signer)
    _attest(release, signer, release.path(artefacts.chart(release.version)))


def sign_chart_with_another_key(release: Release, signer: Signer) -> None:
    keys = release.folder.with_name("others")
    create_trial_keys(signer.cosign, keys)
    release.path(artefacts.chart_signature(release.version)).unlink()
    sign_chart(release.path(artefacts.chart(release.version)), keys)


def remove_a_statement(release: Release, _: Signer) -> None:
    release.path(artefacts.provenance(artefacts.chart(release.version))).unlink()


def add_a_file(release: Release, _: Signer) -> None:
    (release.folder / "install.sh").write_text("curl | sh")


REJECTIONS: list[tuple[Edit, str]] = [
    (change_layer, "cosign verify-blob-attestation failed"),
    (change_manifest, "cosign verify-blob-attestation failed"),
    (add_a_file_to_the_image, "cosign verify-blob-attestation failed"),
    (remove_a_platform, "cosign verify-blob-attestation failed"),
    (attest_another_image, "cosign verify-blob-attestation failed"),
    (remove_a_package_from_the_sbom, "differs from the signed list"),
    (sign_an_incomplete_sbom, "is in the image but not in the list"),
    (sign_an_sbom_with_another_package, "left-pad 1.0 is in the list but not in the image"),
    (swap_statements_of_packages, "cosign verify-blob-attestation failed"),
    (change_the_payload_of_a_statement, "cosign verify-blob-attestation failed"),
    (name_another_commit, "built from different commits"),
    (change_wheel, "cosign verify-blob-attestation failed"),
    (attest_another_wheel, "does not contain irsa_sidecar-"),
    (change_sdist, "cosign verify-blob-attestation failed"),
    (change_chart, "cosign verify-blob-attestation failed"),
    (attest_another_chart, "helm verify rejects"),
    (sign_chart_with_another_key, "helm verify rejects"),
    (remove_a_statement, "is missing"),
    (add_a_file, "install.sh is not a part of a release"),
]


def test_untouched_release_is_accepted(release: Release) -> None:
    assert len(verify(release)) == 40


@pytest.mark.parametrize(("edit", "reason"), REJECTIONS, ids=[edit.__name__ for edit, _ in REJECTIONS])
def test_change_with_valid_checksums_is_rejected(copied: Release, signer: Signer, edit: Edit, reason: str) -> None:
    edit(copied, signer)
    for name in OUTSIDE:
        copied.path(name).unlink()
    signer.sign(write_checksums(copied.folder))
    with pytest.raises(RejectedError, match=reason):
        verify(copied)


def test_release_signed_with_another_key_is_rejected(copied: Release, tmp_path: Path) -> None:
    """Sign a consistent release with an untrusted key."""
    create_trial_keys(built(COSIGN), tmp_path / "others")
    other = Signer(built(COSIGN), tmp_path / "others" / "cosign.key")
    copied.path(NAME + SUFFIX).unlink()
    other.sign(copied.path(NAME))
    verify_list_only = replace(copied, verifier=trust_key(built(COSIGN), tmp_path / "others" / "cosign.pub"))
    with pytest.raises(RejectedError, match="cosign verify-blob-attestation failed"):
        verify(verify_list_only)
    with pytest.raises(RejectedError, match="cosign verify-blob failed"):
        verify(copied)


@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_missing_list_or_signature_is_rejected(copied: Release, name: str) -> None:
    copied.path(name).unlink()
    with pytest.raises(RejectedError, match=f"{name} is missing"):
        verify(copied)


def test_swapped_checksums_are_rejected(copied: Release) -> None:
    first, second, *others = copied.path(NAME).read_text().splitlines()
    swapped = [second[:64] + first[64:], first[:64] + second[64:], *others]
    write(copied.path(NAME), ("\n".join(swapped) + "\n").encode())
    with pytest.raises(RejectedError, match="cosign verify-blob failed"):
        verify(copied)


def test_bundle_with_more_than_a_signature_is_rejected(copied: Release) -> None:
    """Cosign ignores white space and the key hint, so our program compares the bundle byte by byte."""
    bundle = copied.path(NAME + SUFFIX)
    write(bundle, bundle.read_bytes() + b"\n")
    with pytest.raises(RejectedError, match="has more than the signature"):
        verify(copied)


def test_changed_byte_in_any_file_is_rejected(copied: Release) -> None:
    """Change the first, the middle and the last byte of each file in turn."""
    for path in sorted(copied.folder.iterdir()):
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            write(path, flipped(content, position))
            with pytest.raises(RejectedError):
                verify(copied)
        write(path, content)
    assert verify(copied)


def test_changed_byte_in_the_signature_is_rejected(copied: Release) -> None:
    bundle = copied.path(NAME + SUFFIX)
    content = bundle.read_bytes()
    for position in range(len(content)):
        write(bundle, flipped(content, position))
        with pytest.raises(RejectedError):
            verify(copied)


def test_change_of_the_copy_does_not_change_the_release(release: Release, copied: Release) -> None:
    """Check that tests with the copy cannot change dist/."""
    write(copied.path(NAME), b"")
    assert release.path(NAME).read_bytes()
    shutil.rmtree(copied.folder)
    assert release.path(NAME).exists()
