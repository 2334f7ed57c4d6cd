"""
What Amazon's EKS Pod identity webhook does to Pods, for tests beside ours.

After its README and what its handler can be seen to do: `skip-containers` is read as CSV and nothing is trimmed, a
container that has either variable of a web identity keeps its own but gets the mount, and the volume is added also
where every container is skipped. As a program it is an admission webhook for Pods of the ServiceAccount `app`, over
TLS, that writes a line for each review.
"""

import argparse
import base64
import csv
import json
import ssl
import sys
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sidecar.injection.json_patch import json_patch

Document = dict[str, Any]

ACCOUNT = "app"
SKIP_CONTAINERS = "eks.amazonaws.com/skip-containers"
VOLUME = "aws-iam-token"
DIRECTORY = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
EXPIRATION_SECONDS = 86_400


def mutated(pod: Document, *, role_arn: str, region: str, is_sts_regional: bool = True) -> Document:
    """The Pod as it leaves that webhook, for a ServiceAccount with this role."""
    result = deepcopy(pod)
    spec = result["spec"]
    skipped = _skipped((pod["metadata"].get("annotations") or {}).get(SKIP_CONTAINERS))
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        if container["name"] not in skipped:
            _mutate(container, role_arn, region, is_sts_regional=is_sts_regional)
    volumes = spec.get("volumes") or []
    if not any(volume["name"] == VOLUME for volume in volumes):
        token = {"audience": "sts.amazonaws.com", "expirationSeconds": EXPIRATION_SECONDS, "path": "token"}
        volumes = [{"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}, *volumes]
    spec["volumes"] = volumes
    return result


def _skipped(annotation: str | None) -> set[str]:
    return set(next(csv.reader([annotation]), [])) if annotation else set()


def _mutate(container: Document, role_arn: str, region: str, *, is_sts_regional: bool) -> None:
    variables = container.get("env") or []
    names = {variable["name"] for variable in variables}
    wanted: list[tuple[str, str]] = []
    if is_sts_regional and "AWS_STS_REGIONAL_ENDPOINTS" not in names:
        wanted.append(("AWS_STS_REGIONAL_ENDPOINTS", "regional"))
    if not names & {"AWS_REGION", "AWS_DEFAULT_REGION"}:
        wanted += [("AWS_DEFAULT_REGION", region), ("AWS_REGION", region)]
    if not names & {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}:
        wanted += [("AWS_ROLE_ARN", role_arn), ("AWS_WEB_IDENTITY_TOKEN_FILE", f"{DIRECTORY}/token")]
    container["env"] = [*variables, *({"name": name, "value": value} for name, value in wanted)]
    mounts = container.get("volumeMounts") or []
    if not any(mount["name"] == VOLUME for mount in mounts):
        mounts = [*mounts, {"name": VOLUME, "readOnly": True, "mountPath": DIRECTORY}]
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
        """Nothing."""


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
