"""Provide a healthy Pod with a sidecar, functions that return parts of it, and a function that examines a Pod."""

from typing import Any

from sidecar.doctor import from_pod
from sidecar.doctor.finding import Status
from sidecar.doctor.report import Report

PODS = "/api/v1/namespaces/shop/pods"
READY = f"{PODS}/cart:4773/proxy/readyz"

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "cart", "namespace": "shop", "labels": {"irsa-sidecar.io/inject": "true"}},
    "spec": {
        "serviceAccountName": "cart",
        "initContainers": [
            {
                "name": "irsa-sidecar",
                "image": "registry.example/irsa-sidecar:1",
                "restartPolicy": "Always",
                "env": [
                    {"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/cart"},
                    {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/irsa-sidecar/token"},
                    {"name": "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE", "value": "/run/irsa-sidecar/token"},
                ],
                "volumeMounts": [
                    {"name": "token", "mountPath": "/var/run/secrets/irsa-sidecar", "readOnly": True},
                    {"name": "authorization", "mountPath": "/run/irsa-sidecar"},
                ],
            }
        ],
        "containers": [
            {
                "name": "app",
                "image": "cart:1",
                "env": [
                    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://127.0.0.1:4772/v1/credentials"},
                    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/secret/token"},
                    {"name": "AWS_REGION", "value": "eu-west-1"},
                    {"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"},
                    {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
                ],
                "volumeMounts": [{"name": "authorization", "mountPath": "/secret", "readOnly": True}],
            },
            {"name": "proxy", "image": "envoy:1"},
        ],
        "volumes": [
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": "sts.amazonaws.com",
                                "expirationSeconds": 86400,
                                "path": "token",
                            }
                        }
                    ]
                },
            },
            {"name": "authorization", "emptyDir": {"medium": "Memory"}},
        ],
    },
    "status": {
        "phase": "Running",
        "initContainerStatuses": [{"name": "irsa-sidecar", "restartCount": 0, "state": {"running": {}}}],
        "containerStatuses": [{"name": "app", "state": {"running": {}}}],
    },
}


async def examine(environ: dict[str, str], where: str = "cart", *, execs: bool = False) -> Report:
    return await from_pod.examine(environ, where, None, execs=execs)


def statuses(report: Report) -> dict[str, Status]:
    return {
        f"{row.group}.{row.check}": row.finding.status for row in report.rows if row.finding.status is not Status.OK
    }


def sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["initContainers"][0]
    return found


def app(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def state(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["status"]["initContainerStatuses"][0]
    return found


def token_source(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    return found
