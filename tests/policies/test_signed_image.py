"""
Verify real signatures in a local registry with the policy k8s/policies/kyverno/enforce/signed-image.yaml.

Rule: the tests change only the name of the registry, and the attestor, which has a key as in docs/policies.md.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.go_programs import COSIGN, CRANE, built
from release.oci import SavedImage, image_index, layout, platform_image
from release.publish import push_image
from release.signing import Signer, create_keys
from release.use import registry
from tests.policies.cases import PodParts, pod, workload
from tests.policies.kyverno import ACCEPTED, Expectation, run_tests
from tests.support.documents import blocks
from tests.support.manifests import K8S

SAMPLE = K8S / "policies/kyverno/enforce/signed-image.yaml"
REFUSAL = "The image of irsa-sidecar has no signature of the release workflow: "


@pytest.fixture(scope="module")
def messages(kyverno: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str | None]]:
    """Return the message of the policy for each Pod."""
    folder = tmp_path_factory.mktemp("signed")
    with registry(built(CRANE)) as address:
        images = _push_images(folder, f"{address}/irsa-sidecar")
        (folder / "policy").mkdir()
        policy = folder / "policy/signed-image.yaml"
        policy.write_text(yaml.safe_dump(_policy(f"{address}/irsa-sidecar", (folder / "cosign.pub").read_text())))
        pods = {name: _pod(name, image) for name, image in images.items()}
        expectations = [Expectation(each, "pass" if name == "signed" else "fail") for name, each in pods.items()]
        yield run_tests(kyverno, folder, policy, expectations, "enforce", "--registry")


def test_signed_image_is_accepted(messages: Mapping[str, str | None]) -> None:
    assert messages["signed"] == ACCEPTED


@pytest.mark.parametrize("name", ["unsigned", "signed-by-somebody-else"])
def test_image_without_our_signature_is_rejected(messages: Mapping[str, str | None], name: str) -> None:
    assert str(messages[name]).startswith(REFUSAL)


def test_tag_instead_of_a_digest_is_rejected(messages: Mapping[str, str | None]) -> None:
    """Use a tag of the signed image. In a cluster, Kyverno first replaces the tag with the digest."""
    assert "does not have a digest" in str(messages["tag"])


def test_unchanged_sample_accepts_pods_without_our_image(kyverno: Path, tmp_path: Path) -> None:
    """Check that the unchanged policy compiles. It can verify signatures of the release workflow only online."""
    other = workload("Pod", "other", pod(PodParts()))
    found = run_tests(kyverno, tmp_path, SAMPLE, [Expectation(other, "pass")], "enforce")
    assert found == {"other": ACCEPTED}


def _push_images(folder: Path, repository: str) -> dict[str, str]:
    """Push images, and return their names. One image is signed with our key, and one image with another key."""
    cosign = built(COSIGN)
    found = {}
    for name, keys in (("signed", folder), ("signed-by-somebody-else", folder / "other"), ("unsigned", None)):
        image = platform_image(SavedImage({"architecture": "amd64", "config": {"User": name}}, []), {}, 1)
        archive = folder / f"{name}.tar"
        archive.write_bytes(layout(image_index([image], {}), [image], name, 1))
        found[name], _ = push_image(built(CRANE), archive, repository)
        if keys:
            keys.mkdir(exist_ok=True)
            create_keys(cosign, keys)
            Signer(cosign, keys / "cosign.key").run("sign", "--recursive", "--allow-http-registry", found[name])
    return {**found, "tag": f"{repository}:signed"}


def _policy(repository: str, key: str) -> dict[str, Any]:
    """Return the policy with the attestor in docs/policies.md."""
    policy: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    (block,) = blocks("docs/policies.md", "Verify signatures at admission", "yaml")
    (attestor,) = yaml.safe_load(block.text)["attestors"]
    attestor["cosign"]["key"]["data"] = key
    spec = policy["spec"]
    assert [each["name"] for each in spec["attestors"]] == [attestor["name"]]
    spec["attestors"] = [attestor]
    spec["matchImageReferences"] = [{"glob": f"{repository}*"}]
    return policy


def _pod(name: str, image: str) -> dict[str, Any]:
    return workload("Pod", name, pod(PodParts(sidecar=image)))
