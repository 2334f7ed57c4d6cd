"""
Run Amazon's webhook for EKS Pod Identity as a fake on a loopback address of the API server.

The fake reads the associations of moto's account. As in EKS, a new association has no effect on the next Pods.
"""

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import trustme
import yaml

from sidecar.injection.json_patch import json_patch
from tests.cluster.cluster import Cluster
from tests.cluster.inner_listener import listener_inside
from tests.support.fakes.amazons_webhook import mutated_for_pod_identity
from tests.support.fakes.threaded import serving

NAME = "mutatingwebhookconfiguration/pod-identity-webhook"


class EksWebhook:
    """The state of the webhook. `reviewed` counts the Pods with an association that the webhook did not know yet."""

    def __init__(self, has_association: Callable[[str, str], bool], unknown_pods: int) -> None:
        self._has_association = has_association
        self._unknown_pods = unknown_pods
        self.reviewed = 0

    def mutated(self, pod: dict[str, Any], namespace: str) -> dict[str, Any]:
        if not self._has_association(namespace, pod["spec"]["serviceAccountName"]):
            self.reviewed = 0
            return pod
        if self.reviewed < self._unknown_pods:
            self.reviewed += 1
            return pod
        return mutated_for_pod_identity(pod, region="eu-west-1")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    webhook: EksWebhook

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        pod = request["object"]
        patch = json.dumps(json_patch(pod, self.webhook.mutated(pod, request["namespace"]))).encode()
        response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch"}
        response["patch"] = base64.b64encode(patch).decode()
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Ignore the messages of http.server."""


@contextmanager
def eks_webhook(
    cluster: Cluster, has_association: Callable[[str, str], bool], *, unknown_pods: int = 0
) -> Iterator[EksWebhook]:
    """Run the webhook until the block ends. `has_association` gets a namespace and a ServiceAccount."""
    authority, webhook = trustme.CA(), EksWebhook(has_association, unknown_pods)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    handler = type("Handler", (_Handler,), {"webhook": webhook})
    with serving(handler, context, listener_inside(cluster)) as url:
        text = yaml.safe_dump(_configuration(url, authority.cert_pem.bytes()))
        cluster.kubectl("create", "--filename=-", stdin=text)
        try:
            yield webhook
        finally:
            cluster.kubectl("delete", NAME)


def _configuration(url: str, authority: bytes) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    name = NAME.partition("/")[2]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "pod-identity-webhook.amazonaws.com",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
                "failurePolicy": "Ignore",
                "rules": [rule],
                "sideEffects": "None",
            }
        ],
    }
