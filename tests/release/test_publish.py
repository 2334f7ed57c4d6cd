"""Test that clients verify a release in a registry, and reject an image that somebody else pushed."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from release import artefacts
from release.check import Release
from release.go_programs import COSIGN, CRANE, HELM_3, HELM_4, GoProgram, built
from release.keys import cosign_public_key
from release.oci import SavedImage, image_index, layout, platform_image
from release.publish import Registry, publish, push_image
from release.signing import Signer
from release.use import registry
from tests.release.conftest import KEYS


@pytest.fixture(scope="module")
def local() -> Iterator[Registry]:
    with registry(built(CRANE)) as address:
        yield Registry(address, built(CRANE), built(HELM_4), plain_http=True)


@pytest.fixture(scope="module")
def published(local: Registry, release: Release, signer: Signer) -> list[str]:
    """Publish the release in the local registry, and return the names of both images with their digests."""
    return publish(release.folder, release.version, local, signer)


def cosign(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    trust = [f"--key={cosign_public_key(KEYS)}", "--insecure-ignore-tlog=true", "--allow-http-registry"]
    return subprocess.run([built(COSIGN), command, *trust, *arguments], capture_output=True, text=True, check=False)


def test_images_are_verified_by_digest(published: list[str]) -> None:
    for reference in published:
        done = cosign("verify", reference)
        assert done.returncode == 0, done.stderr


def test_each_platform_has_its_list_of_packages(published: list[str], local: Registry, release: Release) -> None:
    index = subprocess.run([local.crane, "manifest", published[0]], capture_output=True, text=True, check=True).stdout
    manifests = json.loads(index)["manifests"]
    assert len(manifests) == len(release.architectures)
    for manifest in manifests:
        done = cosign("verify-attestation", "--type=spdxjson", f"{local.repository}@{manifest['digest']}")
        assert done.returncode == 0, done.stderr


def test_unsigned_image_is_rejected(published: list[str], local: Registry, tmp_path: Path) -> None:
    image = platform_image(SavedImage({"architecture": "amd64", "config": {}}, []), {}, 1)
    (tmp_path / "other.tar").write_bytes(layout(image_index([image], {}), [image], "other", 1))
    reference, _ = push_image(local.crane, tmp_path / "other.tar", local.repository)
    assert reference not in published
    assert cosign("verify", reference).returncode != 0


@pytest.mark.parametrize("program", [HELM_3, HELM_4], ids=["helm3", "helm4"])
def test_helm_pulls_and_verifies_the_chart(
    published: list[str], local: Registry, release: Release, tmp_path: Path, program: GoProgram
) -> None:
    assert published
    chart = ["pull", f"oci://{local.address}/charts/irsa-sidecar", f"--version={release.version}", "--plain-http"]
    trust = ["--verify", f"--keyring={release.chart_key}", f"--destination={tmp_path}"]
    done = subprocess.run([built(program), *chart, *trust], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pulled = tmp_path / artefacts.chart(release.version)
    assert pulled.read_bytes() == release.path(artefacts.chart(release.version)).read_bytes()
