"""
Serve a large cluster and a large account to `irsa-sidecar audit`, with a latency for each call.

The responses are those of the Kubernetes API and of AWS's wire protocols, with the fields of real objects that need
most of the space. The objects are created once, so the server needs little CPU. `python -m benchmarks.audit_fakes`
prints its port, and ends when its input ends.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT_ID = "111122223333"
ISSUER_KEY = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B716D3041E"
PROVIDER_ARN = f"arn:aws:iam::{ACCOUNT_ID}:oidc-provider/{ISSUER_KEY}"
ROLES_PER_PAGE = 100
"""Default of MaxItems in IAM's lists."""

PODS_PER_NODE = 30
ANNOTATION_BYTES, VARIABLES = 1_500, 20
"""Size of an annotation, and number of variables, of each Pod. Real Pods are about this large."""


class Sizes(NamedTuple):
    """The number of objects, and the latency of each call in seconds."""

    accounts: int
    pods: int
    roles: int
    latency_seconds: float


def role_arn(number: int) -> str:
    return f"arn:aws:iam::{ACCOUNT_ID}:role/app-{number}"


def namespace(number: int) -> str:
    return f"team-{number % 50}"


class World:
    """The documents of the cluster and the account."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.collections: dict[str, list[str]] = {
            "/api/v1/serviceaccounts": [self._service_account(n) for n in range(sizes.accounts)],
            "/api/v1/pods": [self._pod(n) for n in range(sizes.pods)],
            "/api/v1/nodes": [self._node(n) for n in range(self.nodes)],
            "/apis/networking.k8s.io/v1/networkpolicies": [],
        }
        self.roles = [self._role(n) for n in range(sizes.roles)]

    @property
    def nodes(self) -> int:
        return self.sizes.pods // PODS_PER_NODE + 1

    def _service_account(self, number: int) -> str:
        annotations = {"eks.amazonaws.com/role-arn": role_arn(number % self.sizes.roles)}
        return json.dumps(
            {"metadata": {"namespace": namespace(number), "name": f"app-{number}", "annotations": annotations}}
        )

    def _pod(self, number: int) -> str:
        account = number % self.sizes.accounts
        arn = role_arn(account % self.sizes.roles)
        env = [{"name": f"SETTING_{n}", "value": "x" * 40} for n in range(VARIABLES)]
        irsa = [
            {"name": "AWS_ROLE_ARN", "value": arn},
            {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"},
        ]
        owner = {"kind": "ReplicaSet", "name": f"app-{account}-6f", "controller": True}
        metadata = {
            "namespace": namespace(account),
            "name": f"app-{account}-6f-{number}",
            "labels": {"app": f"app-{account}", "pod-template-hash": "6f"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * ANNOTATION_BYTES},
            "ownerReferences": [owner],
            "creationTimestamp": "2026-11-01T00:00:00Z",
        }
        spec = {
            "serviceAccountName": f"app-{account}",
            "nodeName": f"node-{number % self.nodes}",
            "containers": [{"name": "app", "image": "registry.example/app:1", "env": [*env, *irsa]}],
        }
        return json.dumps({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})

    def _node(self, number: int) -> str:
        return json.dumps(
            {"metadata": {"name": f"node-{number}"}, "spec": {"providerID": f"aws:///eu-west-1a/i-{number:017x}"}}
        )

    def _role(self, number: int) -> str:
        """Return the role as IAM's XML. It trusts its ServiceAccounts. Every tenth role trusts a whole namespace."""
        users = range(number, self.sizes.accounts, self.sizes.roles)
        subjects = [f"system:serviceaccount:{namespace(each)}:app-{each}" for each in users]
        condition: dict[str, dict[str, Any]] = {"StringEquals": {f"{ISSUER_KEY}:aud": "sts.amazonaws.com"}}
        if number % 10:
            condition["StringEquals"][f"{ISSUER_KEY}:sub"] = subjects
        else:
            condition["StringLike"] = {f"{ISSUER_KEY}:sub": f"system:serviceaccount:{namespace(number)}:*"}
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": PROVIDER_ARN},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": condition,
        }
        policy = quote(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        return (
            f"<Path>/</Path><RoleName>app-{number}</RoleName><RoleId>AROA{number:017d}</RoleId><Arn>{role_arn(number)}"
            f"</Arn><CreateDate>2024-01-01T00:00:00Z</CreateDate><MaxSessionDuration>3600</MaxSessionDuration>"
            f"<AssumeRolePolicyDocument>{escape(policy)}</AssumeRolePolicyDocument>"
        )

    # Kubernetes

    def page(self, path: str, query: dict[str, list[str]]) -> bytes:
        items = self.collections[path]
        first, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        following = str(first + limit) if first + limit < len(items) else ""
        shown = ",".join(items[first : first + limit])
        return f'{{"metadata":{{"continue":"{following}"}},"items":[{shown}]}}'.encode()

    # AWS

    def query(self, parameters: dict[str, list[str]]) -> bytes:
        action = parameters["Action"][0]
        result = _ACTIONS[action](self, parameters)
        return f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>".encode()

    def caller(self, _parameters: dict[str, list[str]]) -> str:
        return f"<Arn>arn:aws:iam::{ACCOUNT_ID}:user/me</Arn><UserId>AIDA</UserId><Account>{ACCOUNT_ID}</Account>"

    def list_roles(self, parameters: dict[str, list[str]]) -> str:
        first = int(parameters.get("Marker", ["0"])[0])
        following = first + ROLES_PER_PAGE
        more = following < len(self.roles)
        marker = f"<Marker>{following}</Marker>" if more else ""
        return f"<IsTruncated>{str(more).lower()}</IsTruncated>{marker}{_members('Roles', self.roles[first:following])}"

    def get_role(self, parameters: dict[str, list[str]]) -> str:
        number = int(parameters["RoleName"][0].rpartition("-")[2])
        used = (
            "<RoleLastUsed><LastUsedDate>2026-11-27T00:00:00Z</LastUsedDate><Region>eu-west-1</Region></RoleLastUsed>"
        )
        return f"<Role>{self.roles[number]}{used}</Role>"

    def attached(self, _parameters: dict[str, list[str]]) -> str:
        policies = [
            f"<PolicyName>p{n}</PolicyName><PolicyArn>arn:aws:iam::{ACCOUNT_ID}:policy/p{n}</PolicyArn>"
            for n in range(2)
        ]
        return f"<IsTruncated>false</IsTruncated>{_members('AttachedPolicies', policies)}"

    def inline(self, _parameters: dict[str, list[str]]) -> str:
        return f"<IsTruncated>false</IsTruncated>{_members('PolicyNames', ['own'])}"

    def providers(self, _parameters: dict[str, list[str]]) -> str:
        return _members("OpenIDConnectProviderList", [f"<Arn>{PROVIDER_ARN}</Arn>"])

    def provider(self, _parameters: dict[str, list[str]]) -> str:
        return f"<Url>{ISSUER_KEY}</Url>{_members('ClientIDList', ['sts.amazonaws.com'])}"

    def instances(self, parameters: dict[str, list[str]]) -> bytes:
        ids = [values[0] for name, values in parameters.items() if name.startswith("Filter.1.Value.")]
        return (
            b"<DescribeInstancesResponse><reservationSet>%s</reservationSet></DescribeInstancesResponse>"
            % _reserved(tuple(ids))
        )


@cache
def _reserved(ids: tuple[str, ...]) -> bytes:
    options = "<httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>"
    items = "".join(
        f"<item><instanceId>{each}</instanceId><metadataOptions>{options}<httpEndpoint>enabled</httpEndpoint>"
        "</metadataOptions></item>"
        for each in ids
    )
    return f"<item><instancesSet>{items}</instancesSet></item>".encode()


def _members(name: str, members: Iterable[str]) -> str:
    return f"<{name}>{''.join(f'<member>{each}</member>' for each in members)}</{name}>"


_ACTIONS: dict[str, Callable[[World, dict[str, list[str]]], str]] = {
    "GetCallerIdentity": World.caller,
    "ListRoles": World.list_roles,
    "GetRole": World.get_role,
    "ListAttachedRolePolicies": World.attached,
    "ListRolePolicies": World.inline,
    "ListOpenIDConnectProviders": World.providers,
    "GetOpenIDConnectProvider": World.provider,
}


class Handler(BaseHTTPRequestHandler):
    """One connection to the API server or to AWS."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    world: World

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self._respond(json.dumps({"issuer": f"https://{ISSUER_KEY}"}).encode())
        elif parts.path.endswith("/pod-identity-associations"):
            self._respond(b'{"associations": []}')
        else:
            self._respond(self.world.page(unquote(parts.path), parse_qs(parts.query)))

    def do_POST(self) -> None:
        parameters = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        is_ec2 = parameters["Action"][0] == "DescribeInstances"
        self._respond(self.world.instances(parameters) if is_ec2 else self.world.query(parameters))

    def _respond(self, body: bytes) -> None:
        time.sleep(self.world.sizes.latency_seconds)
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if body[:1] == b"{" else "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the name is the base class's
        """Write no log."""


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("accounts", "pods", "roles"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True, help="seconds")
    args = parser.parse_args()
    Handler.world = World(Sizes(args.accounts, args.pods, args.roles, args.latency))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        sys.stdin.read()
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main()
