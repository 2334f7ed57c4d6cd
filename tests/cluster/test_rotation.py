"""The kubelet's own renewal of a token, as slow as it is: begun before all other tests, and looked at after them."""

import json
from datetime import datetime

from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace, container_state
from tests.cluster.sts import ClusterSts

RENEWED_SECONDS = 700.0
"""At 80 % of its 600 seconds, or a little later when the Pod is synced; no longer than the token lives."""

GOOD_AT_RENEWAL_SECONDS = 480.0
"""What a new token has left for as long as the one before it is good: it is seen before that ends."""


def test_a_renewed_token_is_seen_and_a_sidecar_that_starts_anew_trades_it(
    node: Cluster, rotating: Namespace, sts: ClusterSts
) -> None:
    told = rotating.logged("web", "irsa-sidecar", '"token_renewed"', seconds=RENEWED_SECONDS)
    renewals = [entry for line in told.splitlines() if (entry := json.loads(line))["event"] == "token_renewed"]
    for renewal in renewals:  # the other tests may take so long that there are several
        expires_at = datetime.fromisoformat(renewal["token_expires_at"])
        seen_at = datetime.fromisoformat(renewal["time"])
        assert GOOD_AT_RENEWAL_SECONDS < (expires_at - seen_at).total_seconds() <= 600
    subject = f"system:serviceaccount:{rotating.name}:app"
    before = len(sts.events("exchange_granted", subject=subject))
    node.kill_container(container_state(rotating.pod("web"), "irsa-sidecar")["containerID"])
    granted = sts.wait_for("exchange_granted", times=before + 1, subject=subject)
    assert granted["arn"].endswith(f"/{rotating.name}.web")
