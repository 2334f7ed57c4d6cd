"""Create the documents of the API server and the responses of AWS for an audited world. Pure."""

from datetime import UTC, datetime
from typing import Any

from sidecar.injection.names import EKS_ROLE_ARN

Document = dict[str, Any]

ACCOUNT_ID = "123456789012"
"""The account of moto's server, so that the same world can be created there."""

ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B716D3041E"
ISSUER_KEY = ISSUER.removeprefix("https://")
PROVIDER_ARN = f"arn:aws:iam::{ACCOUNT_ID}:oidc-provider/{ISSUER_KEY}"
OTHER_PROVIDER_ARN = PROVIDER_ARN.replace("EXAMPLED", "ANOTHERX")
AUDIENCE = "sts.amazonaws.com"

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)

NEAR_NODE, FAR_NODE = "node-1", "node-2"
"""A node whose hop limit protects the metadata service from Pods, and a node whose hop limit does not."""


def role_arn(name: str, account_id: str = ACCOUNT_ID) -> str:
    return f"arn:aws:iam::{account_id}:role/{name}"


def subject(namespace: str, name: str = "app") -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def service_account(namespace: str, name: str = "app", **annotations: str) -> Document:
    """Return a ServiceAccount. The annotation `role` is the ARN in eks.amazonaws.com/role-arn."""
    found = {EKS_ROLE_ARN if key == "role" else key.replace("__", "/"): value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": namespace, "name": name, "annotations": found},
    }


def pod(namespace: str, *containers: Document, name: str = "app-1", **fields: Any) -> Document:
    """Return a running Pod of the ServiceAccount `app`. `fields` change its spec, except labels and annotations."""
    labels, annotations = fields.pop("labels", {}), fields.pop("annotations", {})
    spec = {
        "serviceAccountName": "app",
        "nodeName": NEAR_NODE,
        "containers": list(containers) or [container()],
        **fields,
    }
    metadata = {
        "namespace": namespace,
        "name": name,
        "labels": labels,
        "annotations": annotations,
        "creationTimestamp": "2026-11-01T00:00:00Z",
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


def container(name: str = "app", **variables: Any) -> Document:
    """Return a container. Each variable is a text, or the content of `valueFrom`."""
    env = [
        {"name": key, "value": value} if isinstance(value, str) else {"name": key, "valueFrom": value}
        for key, value in variables.items()
    ]
    return {"name": name, "image": "registry.example/app:1", "env": env}


def irsa_container(arn: str) -> Document:
    """Return a container as Amazon's webhook changes it."""
    token = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"
    changed = container(AWS_ROLE_ARN=arn, AWS_WEB_IDENTITY_TOKEN_FILE=token)
    return changed | {"volumeMounts": [{"name": "aws-iam-token", "mountPath": token.rpartition("/")[0]}]}


def sidecar_pod(namespace: str, arn: str, duration: str | None = "max", **fields: Any) -> Document:
    """Return a Pod as injection changes it."""
    variables = {"AWS_ROLE_ARN": arn, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/irsa-sidecar/token"}
    sidecar = container("irsa-sidecar", **variables, **({"IRSA_SIDECAR_DURATION": duration} if duration else {}))
    app = container(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:4772/v1/credentials")
    labels = {"irsa-sidecar.io/inject": "true"} | fields.pop("labels", {})
    return pod(namespace, app, initContainers=[sidecar | {"restartPolicy": "Always"}], labels=labels, **fields)


def statement(sub: Any, *, operator: str = "StringEquals", aud: str | None = AUDIENCE, **fields: Any) -> Document:
    """Return the statement of AWS's IRSA guide. Without `sub` or `aud`, the condition does not name that key."""
    condition: Document = {}
    if aud:
        condition.setdefault("StringEquals", {})[f"{ISSUER_KEY}:aud"] = aud
    if sub:
        condition.setdefault(operator, {})[f"{ISSUER_KEY}:sub"] = sub
    return {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER_ARN},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
        **fields,
    }


def role(name: str, *statements: Document, **fields: Any) -> Document:
    """Return a role as in the response of GetRole. The role was created long ago, and used yesterday."""
    return {
        "RoleName": name,
        "Arn": role_arn(name),
        "CreateDate": datetime(2024, 1, 1, tzinfo=UTC),
        "MaxSessionDuration": 3600,
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": list(statements)},
        "RoleLastUsed": {"LastUsedDate": datetime(2026, 11, 27, tzinfo=UTC), "Region": "eu-west-1"},
        **fields,
    }


def network_policy(namespace: str, *egress: Document, **fields: Any) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": "egress"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": list(egress), **fields},
    }
