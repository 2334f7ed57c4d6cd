"""Test tokens of a real API server at a strict STS that knows only the published keys."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.namespace import Namespace
from tests.cluster.sts import REGION, ClusterSts, issuer, role_arn
from tests.support.fakes.tokens import service_account_claims
from tests.support.processes import GUARD_SECONDS

IRSA_SIDECAR = [sys.executable, "-m", "sidecar"]
AWS = str(Path(sys.executable).parent / "aws")


def run(
    cluster: Cluster, sts: ClusterSts, token: Path, *command: str, role: str = "app"
) -> "subprocess.CompletedProcess[str]":
    """Run one of our commands with a Pod's environment, in the network that has the STS."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_ROLE_ARN": role_arn(role),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_STS": sts.url,
    }
    return subprocess.run(
        [*cluster.inside(), *IRSA_SIDECAR, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
    )


@pytest.fixture
def token(namespace: Namespace, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(namespace.token())
    return path


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_fake_claims_have_the_shape_of_real_claims(namespace: Namespace) -> None:
    _make_unscheduled_pod(namespace)
    real = claims_of(namespace.token(bound_object_kind="Pod", bound_object_name="idle"))
    made_up = service_account_claims(time.time())
    assert _shape(made_up) == _shape(real)
    assert real["aud"] == ["sts.amazonaws.com"]
    assert real["sub"] == f"system:serviceaccount:{namespace.name}:app"


def test_token_gets_credentials(cluster: Cluster, sts: ClusterSts, token: Path) -> None:
    done = run(cluster, sts, token, "credentials")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() >= {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}


def test_command_has_the_role_and_a_session_name_of_the_account(
    cluster: Cluster, sts: ClusterSts, namespace: Namespace, token: Path
) -> None:
    done = run(cluster, sts, token, "exec", "--", AWS, "sts", "get-caller-identity", "--query=Arn", "--output=text")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"arn:aws:sts::111122223333:assumed-role/app/system-serviceaccount-{namespace.name}-app"
    )


def test_session_name_contains_the_pod_of_the_token(
    cluster: Cluster, sts: ClusterSts, namespace: Namespace, tmp_path: Path
) -> None:
    _make_unscheduled_pod(namespace)
    path = tmp_path / "token"
    path.write_text(namespace.token(bound_object_kind="Pod", bound_object_name="idle"))
    assert run(cluster, sts, path, "credentials").returncode == 0
    assert sts.events("exchange_granted", arn=f"arn:aws:sts::111122223333:assumed-role/app/{namespace.name}.idle")


def test_role_for_another_service_account_shows_the_aws_error(cluster: Cluster, sts: ClusterSts, token: Path) -> None:
    done = run(cluster, sts, token, "credentials", role="foreign")
    assert done.returncode == 1
    assert "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity" in done.stderr


def test_token_for_the_api_server_is_rejected(
    cluster: Cluster, sts: ClusterSts, namespace: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(namespace.token(audience="https://kubernetes.default.svc"))
    done = run(cluster, sts, path, "credentials")
    assert done.returncode == 1
    assert "InvalidIdentityToken" in done.stderr


def test_token_command_shows_the_service_account_and_issuer(
    cluster: Cluster, sts: ClusterSts, namespace: Namespace, token: Path
) -> None:
    done = run(cluster, sts, token, "token")
    assert done.returncode == 0, done.stderr
    assert f"system:serviceaccount:{namespace.name}:app" in done.stdout
    assert issuer(cluster) in done.stdout


def _make_unscheduled_pod(namespace: Namespace) -> None:
    """Create a Pod to which a token can be bound. No node runs the Pod."""
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "idle"},
            "spec": {
                "serviceAccountName": "app",
                "nodeSelector": {"there-is": "none"},
                "securityContext": user,
                "containers": [{"name": "app", "image": "none", "securityContext": strict}],
            },
        }
    )


def _shape(value: Any) -> Any:
    """Return the names and types of the claims, without the values, because these differ between tokens."""
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value)
