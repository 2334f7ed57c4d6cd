"""Create the objects of cases in moto's account and behind an API server."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import boto3

from tests.support.fakes.api_server import FakeApiServer
from tests.support.fakes.moto_server import ACCOUNT_ID
from tests.unit.audit.documents import FAR_NODE, ISSUER, NEAR_NODE, Document
from tests.unit.audit.world import Case

OTHER_ISSUER = ISSUER.replace("EXAMPLED", "ANOTHERX")
HOP_LIMITS = {NEAR_NODE: 1, FAR_NODE: 2}
POLICY_ARN = f"arn:aws:iam::{ACCOUNT_ID}:policy/read"


PATHS = {
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}


def seed_account(url: str, cases: Iterable[Case]) -> dict[str, str]:
    """
    Create the roles, the OIDC providers, the associations and an instance for each node.

    Return the instance's id by node.
    """
    iam = _client("iam", url)
    for issuer in (ISSUER, OTHER_ISSUER):
        clients = ["sts.amazonaws.com", "aws.example"]
        iam.create_open_id_connect_provider(Url=issuer, ClientIDList=clients, ThumbprintList=["ab" * 20])
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_policy(PolicyName="read", PolicyDocument=policy)
    for case in cases:
        for role in case.parts.roles:
            _create_role(iam, role)
    iam.close()
    _associate(url, cases)
    return _instances(url)


def _client(service: str, url: str) -> Any:
    keys = {"aws_access_key_id": "AKIAFAKE", "aws_secret_access_key": "secret"}
    return boto3.client(service, endpoint_url=url, region_name="eu-west-1", **keys)  # type: ignore[call-overload]


def _create_role(iam: Any, role: Document) -> None:
    iam.create_role(
        RoleName=role["RoleName"],
        AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]),
        MaxSessionDuration=role["MaxSessionDuration"],
    )
    iam.attach_role_policy(RoleName=role["RoleName"], PolicyArn=POLICY_ARN)


def _associate(url: str, cases: Iterable[Case]) -> None:
    """Create the EKS Pod Identity associations of the cases in the cluster `lab`. EKS chooses their ids."""
    eks = _client("eks", url)
    for case in cases:
        for each in case.parts.associations:
            names = ("namespace", "serviceAccount", "roleArn")
            eks.create_pod_identity_association(clusterName="lab", **{name: each[name] for name in names})
    eks.close()


def _instances(url: str) -> dict[str, str]:
    ec2 = _client("ec2", url)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    found = {}
    for node, hops in HOP_LIMITS.items():
        options = {"HttpTokens": "required", "HttpPutResponseHopLimit": hops, "HttpEndpoint": "enabled"}
        started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, MetadataOptions=options)
        found[node] = started["Instances"][0]["InstanceId"]
    ec2.close()
    return found


def case_of(finding: Document) -> str:
    """
    Return the name of the case that has this finding in `audit --output json`.

    EKS chooses the id of an association, so only the problem names its namespace.
    """
    subject = finding["subject"]
    if subject["kind"] == "PodIdentityAssociation":
        (namespace,) = re.findall(r"ServiceAccount ([^/]+)/", finding["problem"])
        return str(namespace)
    return str(subject["namespace"] or subject["name"].rpartition("/")[2])


def node(name: str, instance_id: str) -> Document:
    spec = {"providerID": f"aws:///eu-west-1a/{instance_id}"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def seed_cluster(api: FakeApiServer, cases: Iterable[Case], instances: dict[str, str]) -> None:
    """Put the objects of the cases and the nodes behind the fake API server."""
    api.documents["/.well-known/openid-configuration"] = {"issuer": ISSUER}
    put_objects(cases, instances, lambda path, document: api.put(f"{path}/{document['metadata']['name']}", document))


def put_objects(cases: Iterable[Case], instances: dict[str, str], put: Callable[[str, Document], object]) -> None:
    """Pass each object of the cases, with the path of its collection, to `put`."""
    for name, instance_id in instances.items():
        put(PATHS["Node"], node(name, instance_id))
    for case in cases:
        for document in case.parts.objects:
            namespace = document["metadata"]["namespace"]
            put(PATHS[document["kind"]].format(namespace=namespace), document)
