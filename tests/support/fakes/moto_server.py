"""
Run the server of moto, a fake AWS of another project, as a process.

moto 5.2 lacks IAM's AddClientIDToOpenIDConnectProvider and EKS's Pod Identity associations, and gives all EKS clusters
the same issuer. This module adds the actions, and gives each cluster its own issuer, with an id as long as in EKS. The
variable ISSUER sets another issuer for all clusters.

Keys from AssumeRole belong to the account of the assumed role, so a test can use several accounts. Moto's own
MOTO_ACCOUNT_ID would prevent this.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.processes import GUARD_SECONDS

ACCOUNT_ID = "123456789012"
"""The account number of moto's server by default."""

_SERVER = """
import hashlib
import os
import sys
import moto.iam.models
from moto.core.responses import ActionResult, EmptyResult
from moto.eks.models import Cluster
from moto.eks.responses import EKSResponse
from moto.eks.urls import response, url_paths
from moto.iam.responses import IamResponse
from moto.server import ThreadedMotoServer

def add_client_id(self):
    arn, client_id = self._get_param("OpenIDConnectProviderArn"), self._get_param("ClientID")
    audiences = self.backend.get_open_id_connect_provider(arn).client_id_list
    if client_id not in audiences:
        audiences.append(client_id)
    return EmptyResult()

moto.iam.models.DEFAULT_ACCOUNT_ID = os.environ["DEFAULT_ACCOUNT_ID"]
IamResponse.add_client_id_to_open_id_connect_provider = add_client_id

create = Cluster.__init__

def create_with_issuer(self, name, *arguments, **named):
    create(self, name, *arguments, **named)
    oidc = self.identity["oidc"]
    base = oidc["issuer"].rpartition("/")[0]
    oidc["issuer"] = os.environ.get("ISSUER") or f"{base}/{hashlib.sha256(name.encode()).hexdigest()[:32].upper()}"

Cluster.__init__ = create_with_issuer

def associations(self):
    if not hasattr(self.eks_backend, "associations"):
        self.eks_backend.associations = {}
    return self.eks_backend.associations

def cluster_in(self):
    return self.uri.split("/clusters/")[1].split("/")[0]

def association_id_in(self):
    return self.uri.rpartition("/")[2]

def create_association(self):
    names = ("namespace", "serviceAccount", "roleArn", "targetRoleArn", "policy", "tags")
    found = {name: value for name in names if (value := self._get_param(name))}
    found["clusterName"] = cluster_in(self)
    found["associationId"] = "a-" + str(len(associations(self)) + 1)
    associations(self)[found["associationId"]] = found
    return ActionResult({"association": found})

def list_associations(self):
    filters = {name: value for name in ("namespace", "serviceAccount") if (value := self._get_param(name))}
    filters["clusterName"] = cluster_in(self)
    return ActionResult({"associations": [e for e in associations(self).values() if filters.items() <= e.items()]})

def describe_association(self):
    return ActionResult({"association": associations(self)[association_id_in(self)]})

def delete_association(self):
    return ActionResult({"association": associations(self).pop(association_id_in(self))})

EKSResponse.create_pod_identity_association = create_association
EKSResponse.list_pod_identity_associations = list_associations
EKSResponse.describe_pod_identity_association = describe_association
EKSResponse.delete_pod_identity_association = delete_association
path = "{0}/clusters/(?P<clusterName>[^/]+)/pod-identity-associations"
url_paths[path + "$"] = response.dispatch
url_paths[path + "/(?P<associationId>[^/]+)$"] = response.dispatch
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


class MotoServer:
    """A moto server. `url` is the endpoint of all services."""

    def __init__(self, url: str) -> None:
        self.url = url

    def reset(self) -> None:
        """Remove all resources. The server then allows all requests."""
        self.allow_requests(10**9)
        self._post("reset")

    def allow_requests(self, requests: int) -> None:
        """Allow this number of requests. Later requests need permissions in IAM's policies."""
        self._post("reset-auth", str(requests))

    def _post(self, what: str, body: str = "") -> None:
        url = f"{self.url}/moto-api/{what}"
        httpx.post(url, content=body, trust_env=False, timeout=GUARD_SECONDS).raise_for_status()


@contextmanager
def moto_server(account_id: str = ACCOUNT_ID, **settings: str) -> Iterator[MotoServer]:
    """Run a server with these environment variables. Unknown access keys belong to the account `account_id`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = kept | {"INITIAL_NO_AUTH_ACTION_COUNT": str(10**9), "DEFAULT_ACCOUNT_ID": account_id}
    command = [sys.executable, "-c", _SERVER]
    environment |= settings
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        # The first lines are moto's own messages.
        host, port = next(line.split() for line in process.stdout if line.startswith("127.0.0.1 "))
        try:
            yield MotoServer(f"http://{host}:{port}")
        finally:
            process.kill()
