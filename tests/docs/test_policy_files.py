from sidecar.policy.manifest import manifest
from tests.docs.policy import POLICY, SETTINGS


def test_policy_in_the_manifests_is_current() -> None:
    assert POLICY.read_text(encoding="utf-8") == manifest(SETTINGS), "Run `make policy`."
