"""Provide a namespace with an account, and a record, for the tests of `setup migrate`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.injection.names import EKS_ROLE_ARN, INJECT_LABEL
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.migration import KUBE2IAM_ROLE
from sidecar.setup.migration_record import Record, read_record
from tests.support.fakes.api_server import FakeApiServer
from tests.support.fakes.moto_server import ACCOUNT_ID

if TYPE_CHECKING:
    from tests.unit.setup.conftest import Account, CommandResult

ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/cart"
NODES = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:role/nodes"}, "Action": "sts:AssumeRole"}
SERVICE_ACCOUNTS = "/api/v1/namespaces/shop/serviceaccounts"
DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/cart"
CRON_JOB = "/apis/batch/v1/namespaces/shop/cronjobs/report"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/irsa-sidecar"
PAIRS = [
    ("irsa", "sidecar"),
    ("irsa", "pod-identity"),
    ("pod-identity", "sidecar"),
    ("kube2iam", "sidecar"),
    ("kube2iam", "pod-identity"),
]


POD = "/api/v1/namespaces/shop/pods/cart-0"
RECORD = Path("irsa-sidecar-migration-shop.json")


def current_record() -> Record:
    record = read_record(RECORD)
    assert record is not None
    return record


class World:
    """A namespace with the ServiceAccount `cart`, a Deployment and a CronJob, and the role `cart` in the account."""

    def __init__(self, fake: FakeApiServer, account: "Account") -> None:
        self.fake, self.account = fake, account
        self.eks, self.iam = account.client("eks"), account.iam
        created = self.eks.create_cluster(
            name="shop", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={}
        )
        self.issuer = created["cluster"]["identity"]["oidc"]["issuer"]
        self.iam.create_open_id_connect_provider(Url=self.issuer, ClientIDList=["sts.amazonaws.com"])
        self.create_role("cart")
        self.put_account("cart")
        self.put_workload(DEPLOYMENT, "Deployment", {"template": self.template("cart")})
        self.put_workload(CRON_JOB, "CronJob", {"jobTemplate": {"spec": {"template": self.template("cart")}}})
        fake.broken[DISCOVERY_PATH] = (200, {"issuer": self.issuer})
        fake.admit = self.admit
        self.late = 0
        """The number of Pods that the webhooks still create without the new source."""
        fake.put(CONFIGURATION, {"metadata": {"name": "irsa-sidecar"}, "webhooks": [{"objectSelector": INJECT_LABEL}]})

    @contextmanager
    def issuer_of_api_server(self, issuer: str) -> Iterator[None]:
        """Let the API server have another issuer."""
        before = self.fake.broken[DISCOVERY_PATH]
        self.fake.broken[DISCOVERY_PATH] = (200, {"issuer": issuer})
        yield
        self.fake.broken[DISCOVERY_PATH] = before

    def admit(self, path: str, document: Any) -> Any:
        """Change a new Pod as our webhook and the webhook of EKS do."""
        if not path.endswith("/pods") or self.late:
            self.late = max(0, self.late - 1)
            return document
        spec = document["spec"]
        if document["metadata"]["labels"].get(INJECT_LABEL) == "true" and EKS_ROLE_ARN in self.annotations():
            spec["initContainers"] = [{"name": "irsa-sidecar"}]
        if spec["serviceAccountName"] in self.associations():
            spec["volumes"] = [*spec["volumes"], {"name": "eks-pod-identity-token"}]
        return document

    def create_role(self, name: str) -> None:
        document = {"Version": "2012-10-17", "Statement": [NODES]}
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))

    def put_account(self, name: str, **annotations: str) -> None:
        metadata = {"name": name, "namespace": "shop", "annotations": annotations}
        self.fake.put(f"{SERVICE_ACCOUNTS}/{name}", {"metadata": metadata})

    def put_workload(self, path: str, kind: str, spec: Any) -> None:
        name = path.rpartition("/")[2]
        self.fake.put(path, {"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})

    @staticmethod
    def template(account: str) -> Any:
        return {"metadata": {"labels": {"app": "cart"}}, "spec": {"serviceAccountName": account, "containers": []}}

    def use(self, source: str) -> None:
        """Let both workloads use a source of credentials."""
        if source == "irsa":
            self.put_account("cart", **{EKS_ROLE_ARN: ARN})
        elif source == "pod-identity":
            self.eks.create_pod_identity_association(
                clusterName="shop", namespace="shop", serviceAccount="cart", roleArn=ARN
            )
        else:
            for template in self.templates():
                template["metadata"]["annotations"] = {KUBE2IAM_ROLE: "cart"}

    def templates(self) -> list[Any]:
        deployment, job = self.fake.documents[DEPLOYMENT], self.fake.documents[CRON_JOB]
        return [deployment["spec"]["template"], job["spec"]["jobTemplate"]["spec"]["template"]]

    def run(self, source: str, target: str, *arguments: str, cluster: str = "shop") -> "CommandResult":
        pair = ("--from", source, "--to", target)
        return self.account.setup("migrate", *pair, "--namespace", "shop", "--cluster", cluster, *arguments)

    def statements(self, role: str = "cart") -> list[Any]:
        document = self.iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        found: list[Any] = document["Statement"]
        return found

    def associations(self) -> list[str]:
        listed = self.eks.list_pod_identity_associations(clusterName="shop")["associations"]
        return [each["serviceAccount"] for each in listed]

    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.fake.documents[f"{SERVICE_ACCOUNTS}/cart"]["metadata"]["annotations"]
        return found

    def state(self) -> Any:
        """Return everything that a migration may change."""
        metadata = [template["metadata"] for template in self.templates()]
        return json.loads(json.dumps([self.statements(), self.associations(), self.annotations(), metadata]))


def without_empty(value: Any) -> Any:
    """Return the value without empty mappings, because a merge patch leaves an empty mapping of annotations."""
    if isinstance(value, dict):
        return {key: item for key, each in value.items() if (item := without_empty(each)) != {}}
    return [without_empty(each) for each in value] if isinstance(value, list) else value
