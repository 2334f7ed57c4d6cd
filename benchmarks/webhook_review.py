"""Create the ServiceAccounts and the admission reviews that benchmarks/webhook.py uses. Pure."""

import json
from typing import Any

NAMESPACES = 50
"""Number of namespaces. The ServiceAccounts are spread over all of them."""

Document = dict[str, Any]


def account(number: int) -> tuple[str, Document]:
    """Return the path and the document of one ServiceAccount, as an API server stores it."""
    namespace, name = _place(number)
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"6f1b2c3d-0000-4000-8000-{number:012}",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"eks.amazonaws.com/role-arn": f"arn:aws:iam::111122223333:role/{namespace}-{name}"},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
    return path, {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": metadata}


def review(containers: int, number: int) -> bytes:
    """Return the review of a Pod as an API server sends it. The Pod has this number of containers."""
    namespace, name = _place(number)
    metadata = {
        "generateName": f"{name}-6d4cf56db6-",
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": name, "irsa-sidecar.io/inject": "true", "pod-template-hash": "6d4cf56db6"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-6d4cf56db6",
             "uid": "0b8a2c54-9d1f-4b53-8f0e-3a1d2c4b5e6f", "controller": True, "blockOwnerDeletion": True}
        ],
    }  # fmt: skip
    spec = {
        "volumes": [_token_volume()],
        "containers": [_container(index) for index in range(containers)],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": name,
        "serviceAccount": name,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
            for taint in ("not-ready", "unreachable")
        ],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {}}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": resource,
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": resource,
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    document = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(document, separators=(",", ":")).encode()


def _place(number: int) -> tuple[str, str]:
    return f"team-{number % NAMESPACES}", f"service-{number}"


def _token_volume() -> Document:
    """Return the volume that the ServiceAccount admission plugin adds before the webhooks."""
    sources: list[Document] = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "kube-api-access-x7k2p", "projected": {"sources": sources, "defaultMode": 420}}


def _container(index: int) -> Document:
    return {
        "name": f"app-{index}",
        "image": "registry.example.com/shop/service:1.42.0",
        "ports": [{"name": "http", "containerPort": 8080 + index, "protocol": "TCP"}],
        "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "BUCKET", "value": "orders"}],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [
            {"name": "kube-api-access-x7k2p", "readOnly": True,
             "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }  # fmt: skip
