"""Test which parts of the documents from the API server and from AWS are kept."""

from typing import Any

import msgspec
import pytest

from sidecar.audit import aws_kept, kubernetes_kept
from sidecar.audit.kubernetes_kept import MAX_ANNOTATIONS, MAX_NAME_CHARACTERS, MAX_VALUE_CHARACTERS
from tests.unit.audit.documents import container, network_policy, pod, service_account

ALL = {"cidr": "0.0.0.0/0"}


@pytest.mark.parametrize(
    ("rule", "allows"),
    [
        ({}, True),
        ({"to": []}, True),
        ({"to": [{"ipBlock": ALL}]}, True),
        ({"to": [{"ipBlock": ALL | {"except": ["169.254.169.254/32"]}}]}, False),
        ({"to": [{"ipBlock": ALL | {"except": ["169.254.0.0/16"]}}]}, False),
        ({"to": [{"ipBlock": ALL | {"except": ["10.0.0.0/8"]}}]}, True),
        ({"to": [{"ipBlock": {"cidr": "::/0"}}]}, True),
        ({"to": [{"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}}]}, False),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, False),
        ({"to": [{"podSelector": {}}]}, False),
        ({"to": [{"namespaceSelector": {}}, {"ipBlock": ALL}]}, True),
        ({"ports": [{"port": 443}]}, False),
        ({"ports": [{"port": 80}]}, True),
        ({"ports": [{"port": 1, "endPort": 1024}]}, True),
        ({"ports": [{"port": 81, "endPort": 1024}]}, False),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, False),
        ({"ports": [{"protocol": "TCP"}]}, True),
        ({"ports": [{"port": "http"}]}, False),
    ],
)
def test_egress_rule_allows_or_blocks_the_metadata_service(rule: dict[str, Any], allows: bool) -> None:  # noqa: FBT001
    policy = kubernetes_kept.egress_policy(network_policy("shop", rule))
    assert policy is not None
    assert policy.allows_metadata is allows


def test_policy_for_incoming_traffic_is_not_kept() -> None:
    document = network_policy("shop")
    document["spec"] = {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert kubernetes_kept.egress_policy(document) is None


def test_policy_without_egress_rules_allows_nothing() -> None:
    policy = kubernetes_kept.egress_policy(network_policy("shop"))
    assert policy is not None
    assert not policy.allows_metadata


def test_values_of_secret_variables_are_not_kept() -> None:
    kept = kubernetes_kept.pod(
        pod("shop", container(AWS_SECRET_ACCESS_KEY="s3cret", AWS_SESSION_TOKEN="t0ken", DB="x"))
    )
    text = msgspec.json.encode(kept).decode()
    assert "s3cret" not in text
    assert "t0ken" not in text
    assert [variable.name for variable in kept.containers[0].variables] == [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ]


def test_values_of_other_annotations_are_not_kept() -> None:
    document = service_account("shop", role="arn:aws:iam::111122223333:role/app", password="s3cret")
    kept = kubernetes_kept.service_account(document)
    assert kept.annotations == {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/app", "password": ""}


def test_size_of_annotations_is_limited() -> None:
    many = {f"note-{number}": "x" for number in range(5000)} | {"irsa-sidecar.io/role-arn": "y" * 5_000_000}
    kept = kubernetes_kept.pod(pod("shop", annotations=many))
    assert len(kept.annotations) == MAX_ANNOTATIONS
    assert len(kept.annotations["irsa-sidecar.io/role-arn"]) == MAX_VALUE_CHARACTERS


def test_owner_of_a_deployments_pod_is_the_deployment() -> None:
    document = pod("shop", labels={"pod-template-hash": "7d4b9c"})
    document["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "cart-7d4b9c", "controller": True}]
    assert kubernetes_kept.pod(document).owner == "Deployment cart"
    document["metadata"]["labels"] = {}
    assert kubernetes_kept.pod(document).owner == "ReplicaSet cart-7d4b9c"


@pytest.mark.parametrize(
    ("provider_id", "instance_id"),
    [
        ("aws:///eu-west-1a/i-0123456789abcdef0", "i-0123456789abcdef0"),
        ("aws:///eu-west-1a/fargate-ip-10-0-0-1", ""),
        ("gce://project/zone/node", ""),
        (None, ""),
    ],
)
def test_instance_of_a_node_is_its_ec2_instance(provider_id: str | None, instance_id: str) -> None:
    spec = {"providerID": provider_id} if provider_id else {}
    assert kubernetes_kept.node({"metadata": {"name": "node-1"}, "spec": spec}).instance_id == instance_id


def test_metadata_options_of_an_instance_are_kept() -> None:
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "disabled"}
    kept = aws_kept.instance({"InstanceId": "i-1", "MetadataOptions": options})
    assert (kept.hop_limit, kept.is_token_required, kept.is_metadata_on) == (2, True, False)


def test_roles_of_aws_services_are_recognised() -> None:
    arn = "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS"
    assert aws_kept.is_service_linked(arn)
    assert not aws_kept.is_service_linked("arn:aws:iam::111122223333:role/app")


def test_size_of_names_that_a_tenant_chooses_is_limited() -> None:
    """The author of a Pod can choose any text for the names of owners, variables and Secrets."""
    long = "x" * 10_000
    variables: dict[str, Any] = {f"AWS_{long}": "", "AWS_ACCESS_KEY_ID": {"secretKeyRef": {"name": long}}}
    document = pod("shop", container(**variables))
    document["metadata"]["ownerReferences"] = [{"kind": long, "name": long, "controller": True}]
    document["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": long}}]
    assert len(msgspec.json.encode(kubernetes_kept.pod(document))) < 8 * MAX_NAME_CHARACTERS
