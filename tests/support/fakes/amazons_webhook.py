"""
Fake Amazon's EKS Pod identity webhook, for tests that run this webhook together with ours.

The fake follows the README and the visible behaviour of that webhook (3bf80a34). `skip-containers` is read as CSV,
without trimming. A container that already has one of the two variables gets neither of them, but gets the mount. The
volume is added even if every container is skipped. For an EKS Pod Identity association, the Pod always gets the label.

As a program, this module is an admission webhook for Pods of the ServiceAccount `app`, over TLS. The program prints a
line for each review.
"""

import argparse
import base64
import csv
import json
import ssl
import sys
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from sidecar.injection.json_patch import json_patch

Document = dict[str, Any]

ACCOUNT = "app"
SKIP_CONTAINERS = "eks.amazonaws.com/skip-containers"
VOLUME = "aws-iam-token"
DIRECTORY = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
EXPIRATION_SECONDS = 86_400

LABEL = "eks.amazonaws.com/pod-identity"
URI_OF_AGENT = "http://169.254.170.23/v1/credentials"


class Method(NamedTuple):
    """A way to provide credentials: audience, volume, mount directory, file, both variables, and the Pod's label."""

    audience: str
    volume: str
    directory: str
    file: str
    names: tuple[str, str]
    label: str | None = None

    def variables(self, value: str) -> list[tuple[str, str]]:
        """Return both variables. The first variable has this value, and the second variable has the file's path."""
        return [(self.names[0], value), (self.names[1], f"{self.directory}/{self.file}")]


WEB_IDENTITY = Method("sts.amazonaws.com", VOLUME, DIRECTORY, "token", ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"))
POD_IDENTITY = Method(
    "pods.eks.amazonaws.com",
    "eks-pod-identity-token",
    "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
    "eks-pod-identity-token",
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    LABEL,
)


def mutated(pod: Document, *, role_arn: str, region: str, is_sts_regional: bool = True) -> Document:
    """Return the Pod after Amazon's webhook has changed it, for a ServiceAccount with this role."""
    return _mutated(pod, WEB_IDENTITY, role_arn, region, is_sts_regional=is_sts_regional)


def mutated_for_pod_identity(pod: Document, *, region: str, is_sts_regional: bool = True) -> Document:
    """Return the Pod after Amazon's webhook has changed it, for an EKS Pod Identity association."""
    return _mutated(pod, POD_IDENTITY, URI_OF_AGENT, region, is_sts_regional=is_sts_regional)


def _mutated(pod: Document, method: Method, value: str, region: str, *, is_sts_regional: bool) -> Document:
    result = deepcopy(pod)
    spec = result["spec"]
    skipped = _skipped((pod["metadata"].get("annotations") or {}).get(SKIP_CONTAINERS))
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        if container["name"] not in skipped:
            _mutate(container, method, value, region, is_sts_regional=is_sts_regional)
    volumes = spec.get("volumes") or []
    if method.label is not None:
        result["metadata"]["labels"] = {**(pod["metadata"].get("labels") or {}), method.label: "enabled"}
    if not any(volume["name"] == method.volume for volume in volumes):
        token = {"audience": method.audience, "expirationSeconds": EXPIRATION_SECONDS, "path": method.file}
        volumes = [{"name": method.volume, "projected": {"sources": [{"serviceAccountToken": token}]}}, *volumes]
    spec["volumes"] = volumes
    return result


def _skipped(annotation: str | None) -> set[str]:
    return set(next(csv.reader([annotation]), [])) if annotation else set()


def _mutate(container: Document, method: Method, value: str, region: str, *, is_sts_regional: bool) -> None:
    variables = container.get("env") or []
    names = {variable["name"] for variable in variables}
    wanted: list[tuple[str, str]] = []
    if is_sts_regional and "AWS_STS_REGIONAL_ENDPOINTS" not in names:
        wanted.append(("AWS_STS_REGIONAL_ENDPOINTS", "regional"))
    if not names & {"AWS_REGION", "AWS_DEFAULT_REGION"}:
        wanted += [("AWS_DEFAULT_REGION", region), ("AWS_REGION", region)]
    if not names & set(method.names):
        wanted += method.variables(value)
    container["env"] = [*variables, *({"name": name, "value": value} for name, value in wanted)]
    mounts = container.get("volumeMounts") or []
    if not any(mount["name"] == method.volume for mount in mounts):
        mounts = [*mounts, {"name": method.volume, "readOnly": True, "mountPath": method.directory}]
    container["volumeMounts"] = mounts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    settings: argparse.Namespace

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        said: Document = {"uid": request["uid"], "allowed": True}
        pod = request["object"]
        if pod["spec"].get("serviceAccountName") == ACCOUNT:
            after = mutated(pod, role_arn=self.settings.role_arn, region=self.settings.region)
            patch = json.dumps(json_patch(pod, after)).encode()
            said |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        sys.stdout.write(f"{request['uid']}\n")
        sys.stdout.flush()

    def log_message(self, *_: object) -> None:
        """Ignore the messages of http.server, because the program prints its own lines."""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--host", "--certificate", "--role-arn", "--region"):
        parser.add_argument(name, required=True)
    settings = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.certificate)
    server = ThreadingHTTPServer((settings.host, 0), type("Handler", (_Handler,), {"settings": settings}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
