"""
Test that the kubelet renews a token.

The renewal takes minutes, so it starts before all other tests and is checked last.
"""

import json
from datetime import datetime

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace, container_state
from tests.cluster.sts import ClusterSts

RENEWED_SECONDS = 700.0
"""
The deadline for the renewal.

The renewal is due at 80 % of 600 seconds, and the kubelet renews when it syncs the Pod.
"""

GOOD_AT_RENEWAL_SECONDS = 480.0
"""The minimum remaining lifetime of a new token when the sidecar finds the token. The old token is still valid then."""


@pytest.mark.core
def test_renewed_token_is_found_and_used_after_a_restart(node: Cluster, rotating: Namespace, sts: ClusterSts) -> None:
    output = rotating.logged("web", "irsa-sidecar", '"token_renewed"', seconds=RENEWED_SECONDS)
    renewals = [entry for line in output.splitlines() if (entry := json.loads(line))["event"] == "token_renewed"]
    for renewal in renewals:  # several renewals if the other tests take long
        expires_at = datetime.fromisoformat(renewal["token_expires_at"])
        seen_at = datetime.fromisoformat(renewal["time"])
        assert GOOD_AT_RENEWAL_SECONDS < (expires_at - seen_at).total_seconds() <= 600
    subject = f"system:serviceaccount:{rotating.name}:app"
    before = len(sts.events("exchange_granted", subject=subject))
    node.kill_container(container_state(rotating.pod("web"), "irsa-sidecar")["containerID"])
    granted = sts.wait_for("exchange_granted", times=before + 1, subject=subject)
    assert granted["arn"].endswith(f"/{rotating.name}.web")
