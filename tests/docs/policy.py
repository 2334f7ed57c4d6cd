"""
Write the generated files of k8s/policy.

    python -m tests.docs.policy
"""

from sidecar import __version__
from sidecar.injection.settings import Settings
from sidecar.policy.manifest import manifest
from tests.support.manifests import K8S

POLICY = K8S / "policy/policy.yaml"

SETTINGS = Settings(image=f"irsa-sidecar:{__version__}", region="us-east-1")
"""The same settings as in k8s/webhook. An overlay replaces both settings."""


def main() -> None:
    POLICY.write_text(manifest(SETTINGS), encoding="utf-8")


if __name__ == "__main__":
    main()
