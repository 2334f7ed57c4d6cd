"""
Run the STS of `irsa-sidecar local` in the cluster's network. It accepts tokens of the cluster's issuer.

Its roles trust the ServiceAccount `app` of any namespace, except one role that trusts another ServiceAccount.
"""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.layout import IPV4, ISSUER
from tests.cluster.waiting import wait_until
from tests.support.processes import GUARD_SECONDS

ACCOUNT = "111122223333"
REGION = "us-east-1"
ROLES = {"app": "app", "reporting": "app", "foreign": "somebody-else"}
"""The ServiceAccount that each role trusts, by the role's name."""

SHORTEST_SECONDS = 900


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


class ClusterSts:
    """A running STS, with its log and its address."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def events(self, event: str, **fields: str) -> list[dict[str, Any]]:
        """Return the log events of that name with these fields."""
        *lines, _ = self._log.read_text().split("\n")  # the last line may still be incomplete
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        wanted = {"event": event, **fields}
        return [entry for entry in entries if entry.items() >= wanted.items()]

    def wait_for(self, event: str, *, seconds: float = GUARD_SECONDS, times: int = 1, **fields: str) -> dict[str, Any]:
        """Wait until the log has `times` events of that name, and return the last of these events."""
        found = wait_until(
            lambda: self.events(event, **fields)[times - 1 :],
            f"{event} with {fields}",
            seconds=seconds,
            pause_seconds=0.1,
            details=self._log.read_text,
        )
        return found[0]


@contextmanager
def cluster_sts(cluster: Cluster, folder: Path, address: str = IPV4.node) -> Iterator[ClusterSts]:
    """Start the STS with the cluster's current keys. Its address is on the node if the cluster has a node."""
    signer = issuer(cluster)
    roles = [{"name": name, "trust_policy": _trusting(signer, account)} for name, account in ROLES.items()]
    host = address if cluster.has_node else "127.0.0.1"
    config = {"account_id": ACCOUNT, "region": REGION, "sts_host": host, "roles": roles}
    with strict_sts(cluster, folder, config, cluster.inside()) as serving:
        yield serving


@contextmanager
def strict_sts(
    cluster: Cluster, folder: Path, settings: Mapping[str, Any], inside: Sequence[str] = ()
) -> Iterator[ClusterSts]:
    """
    Run the STS of `irsa-sidecar local` with these settings, for the cluster's tokens.

    `inside` is the prefix of the STS's command.
    """
    keys, config, log = folder / "keys.json", folder / "local.yaml", folder / "sts.log"
    keys.write_text(cluster.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
    config.write_text(yaml.safe_dump(settings))
    local = [sys.executable, "-m", "sidecar", "local", "--log-format=json", f"--config={config}"]
    command = [*inside, *local, f"--issuer={issuer(cluster)}", f"--jwks-file={keys}"]
    with log.open("w") as output:
        serving = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=output, text=True)
    try:
        yield ClusterSts(_url(serving), log)
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(GUARD_SECONDS)


def issuer(cluster: Cluster) -> str:
    """Return the issuer of the cluster's tokens, as the cluster reports it."""
    found: str = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)["issuer"]
    assert cluster.layout is None or found == ISSUER
    return found


def _url(serving: "subprocess.Popen[str]") -> str:
    assert serving.stdout is not None
    with serving.stdout:
        lines = serving.stdout.read().splitlines()
    line = next(line for line in lines if line.startswith("export AWS_ENDPOINT_URL_STS="))
    url = shlex.split(line.removesuffix(";"))[1].partition("=")[2]
    assert urlsplit(url).port
    return url


def _trusting(signer: str, account: str) -> dict[str, Any]:
    """Return a trust policy for the ServiceAccount in any namespace, because each test creates a new namespace."""
    provider = signer.removeprefix("https://")
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {f"{provider}:aud": "sts.amazonaws.com"},
                    "StringLike": {f"{provider}:sub": f"system:serviceaccount:*:{account}"},
                },
            }
        ],
    }
