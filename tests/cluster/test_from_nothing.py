"""
Follow the tutorials from an empty account to credentials. Their commands run unchanged, except for names.

moto provides IAM, S3 and EKS, and the API server is real. A TLS server has the issuer's name and serves the files that
the commands upload. moto's STS accepts any token, so the test runs the STS of `irsa-sidecar local` with the trust
policy that `setup role` created in IAM.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import trustme

from tests.cluster.cluster import Cluster
from tests.cluster.inner_listener import listener_inside
from tests.cluster.layout import ISSUER
from tests.cluster.namespace import Namespace
from tests.cluster.sts import strict_sts
from tests.support.documents import blocks, commands, lines_of
from tests.support.fakes.internet import Internet, internet, proxy
from tests.support.fakes.moto_server import ACCOUNT_ID, moto_server
from tests.support.processes import GUARD_SECONDS
from tests.unit.setup.conftest import Authorities

FIRST_POD, OWN_ISSUER = "docs/first-pod.md", "docs/own-issuer.md"
CLUSTER = "1. Let the account accept the cluster's tokens"
SERVICE_ACCOUNT = "2. Name the role on the ServiceAccount"
CHECK = "3. Check the role before a Pod runs"
SIDECAR = "4. Add the sidecar"
"""The headings of sections in docs/first-pod.md."""

BUCKET_STEP = "1. Create a public place for the keys"
PUBLISH, ACCEPT = "3. Publish the keys", "4. Let the account accept the tokens"
"""The headings of sections in docs/own-issuer.md."""


REGION = "eu-west-1"
BUCKET = "shop-oidc"
EKS_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/eks"
POD_IDENTITY = {
    "Effect": "Allow",
    "Principal": {"Service": "pods.eks.amazonaws.com"},
    "Action": ["sts:AssumeRole", "sts:TagSession"],
}
"""The trust policy for EKS Pod Identity (EKS user guide, "How EKS Pod Identity works")."""

CALLS_THE_API_SERVER = re.compile("kubectl |irsa-sidecar setup (issuer-documents|service-account) ")


class World:
    """A person's machine and the servers that it uses. The account is empty and the namespace is new."""

    def __init__(self, cluster: Cluster, namespace: Namespace, folder: Path, moto_url: str, net: Internet) -> None:
        self._cluster, self._namespace, self.folder, self._net = cluster, namespace, folder, net
        self._moto_url = moto_url
        self.inner_proxy_url = net.proxy_url
        """The URL of the proxy for commands that run in the cluster's network."""
        self._authority = folder / "authority.pem"
        self._serve_the_issuer()
        self.environment = self._environment()
        self.s3, self.iam, self.eks = (self._client(service) for service in ("s3", "iam", "eks"))

    def _serve_the_issuer(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._authority)
        host = urlsplit(ISSUER).hostname or ""
        self._net.serve(host, Authorities.server(authority, host))

    def _environment(self) -> dict[str, str]:
        programs = self.folder / "bin"
        programs.mkdir()
        self._cluster.put_kubectl(programs)
        return {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self._cluster.kubeconfig),
            "AWS_ACCESS_KEY_ID": "AKIAFAKE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self._moto_url,
            "HTTPS_PROXY": self._net.proxy_url,
            "NO_PROXY": "127.0.0.1",
            "AWS_CA_BUNDLE": str(self._authority),
        }

    def _client(self, service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=self._moto_url,
            aws_access_key_id="AKIAFAKE",
            aws_secret_access_key="secret",
        )

    def close(self) -> None:
        for client in (self.s3, self.iam, self.eks):
            client.close()

    def ours(self, text: str) -> str:
        """Return the document's text with the names of this test."""
        namespace = self._namespace.name
        text = text.replace("https://shop-oidc.s3.eu-west-1.amazonaws.com", ISSUER).replace("111122223333", ACCOUNT_ID)
        text = re.sub(r"(?<![\w-])shop(?![\w-])", namespace, text)
        # This issuer's certificate has a private CA, which no client trusts by default. Real issuers have a public CA.
        return re.sub(r"(setup oidc-provider(?= --issuer)|--check)", rf"\1 --ca-file {self._authority}", text)

    def run(self, command: str) -> str:
        """Run one command of the document, and return its output."""
        if command.startswith("export "):
            self.environment |= dict(word.split("=", 1) for word in self.ours(command).split()[1:])
            return ""
        if command.startswith("aws s3 sync "):
            self._backdate()
        is_inside = CALLS_THE_API_SERVER.match(command) is not None
        inside = self._cluster.inside() if is_inside else []
        done = subprocess.run(
            [*inside, "bash", "-e", "-o", "pipefail", "-c", self.ours(command)],
            cwd=self.folder,
            env=self.environment | ({"HTTPS_PROXY": self.inner_proxy_url} if is_inside else {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self._publish()
        return done.stdout

    def _backdate(self) -> None:
        """
        Backdate the files.

        S3 stores times in whole seconds, so a file looks newer than an upload in the same second.
        """
        for path in (self.folder / "public").rglob("*"):
            os.utime(path, (0, 0))

    def _publish(self) -> None:
        """Serve the objects of the bucket at the issuer's URL, if the bucket exists."""
        if not self.s3.list_buckets()["Buckets"]:
            return
        for found in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            response = self.s3.get_object(Bucket=BUCKET, Key=found["Key"])
            assert response["ContentType"] == "application/json"
            self._net.publish(f"{ISSUER}/{found['Key']}", response["Body"].read())

    def role(self) -> dict[str, Any]:
        found: dict[str, Any] = self.iam.get_role(RoleName="cart")["Role"]
        return found

    def state(self) -> Mapping[str, Any]:
        """Return all results of the commands: in the account, the bucket, the cluster and the folder."""
        objects = self.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        deployments = self._namespace.get("deployments")["items"]
        return {
            **self.account(),
            "objects": [(found["Key"], found["LastModified"], found["ETag"]) for found in objects],
            "accounts": self._namespace.get("serviceaccounts")["items"],
            # The status is excluded, because controllers update it at any time.
            "deployments": [(found["metadata"]["generation"], found["spec"]) for found in deployments],
            "manifest": (self.folder / "cart.yaml").read_text(),
        }

    def account(self) -> Mapping[str, Any]:
        providers = self.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
        return {
            "roles": self.iam.get_account_authorization_details(Filter=["Role"])["RoleDetailList"],
            "providers": [self._provider(found["Arn"]) for found in providers],
        }

    def _provider(self, arn: str) -> dict[str, Any]:
        found: dict[str, Any] = self.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        return {name: value for name, value in found.items() if name != "ResponseMetadata"}


@pytest.fixture
def world(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[World]:
    if cluster.layout is None:
        pytest.skip("needs the issuer's name of a cluster that the tests started")
    with moto_server() as moto, internet() as net, proxy(net, listener_inside(cluster)) as inner_proxy_url:
        world = World(cluster, namespace, tmp_path, moto.url, net)
        world.inner_proxy_url = inner_proxy_url
        (manifest,) = blocks(FIRST_POD, "Before you start", "yaml")
        (policy,) = blocks(OWN_ISSUER, BUCKET_STEP, "json")
        (tmp_path / "app.yaml").write_text(world.ours(manifest.text))
        (tmp_path / "policy.json").write_text(policy.text)
        for step in (*commands(OWN_ISSUER, BUCKET_STEP), *_documented("On EKS")):
            world.run(step)
        yield world
        world.close()


def test_steps_give_credentials_and_a_second_run_changes_nothing(
    world: World, cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    trusted = [*commands(OWN_ISSUER, PUBLISH), *commands(OWN_ISSUER, ACCEPT)]
    steps = [*trusted, *_documented(SERVICE_ACCOUNT), *_documented(SIDECAR)]
    first = [world.run(step) for step in steps]
    created = world.state()
    assert not any("nothing to change" in printed for printed in first)
    assert [provider["ClientIDList"] for provider in created["providers"]] == [["sts.amazonaws.com"]]

    assert_nothing_changes(world, steps)
    assert world.state() == created

    role = {"name": "cart", "trust_policy": world.role()["AssumeRolePolicyDocument"]}
    with strict_sts(cluster, tmp_path, {"account_id": ACCOUNT_ID, "region": REGION, "roles": [role]}) as sts:
        world.environment["AWS_ENDPOINT_URL_STS"] = sts.url
        token, who_am_i, doctor = _documented(CHECK)
        world.run(token)
        arn = json.loads(world.run(who_am_i))["Arn"]
        assert arn == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/cart/system-serviceaccount-{namespace.name}-cart"
        found = world.run(doctor)
        assert found.startswith("No failure found"), found
        assert "the published key verifies the token" in found
        assert "no other service account is accepted" in found
        world.run(token.replace("create token cart", "create token default"))
        variables, _, _ = who_am_i.partition("irsa-sidecar ")
        assert "AccessDenied" in world.run(f"! {variables} irsa-sidecar credentials --no-daemon 2>&1")


def test_second_run_adds_no_statement_to_a_pod_identity_role(world: World, namespace: Namespace) -> None:
    created = world.eks.create_cluster(name=namespace.name, roleArn=EKS_ROLE_ARN, resourcesVpcConfig={})["cluster"]
    trust_policy = {"Version": "2012-10-17", "Statement": [POD_IDENTITY]}
    world.iam.create_role(RoleName="cart", AssumeRolePolicyDocument=json.dumps(trust_policy))
    for step in _documented(CLUSTER):
        world.run(step)
    theirs, ours = world.role()["AssumeRolePolicyDocument"]["Statement"]
    issuer = created["identity"]["oidc"]["issuer"].removeprefix("https://")
    assert theirs == POD_IDENTITY
    assert ours["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT_ID}:oidc-provider/{issuer}"}
    assert ours["Condition"]["StringEquals"][f"{issuer}:sub"] == f"system:serviceaccount:{namespace.name}:cart"

    created = world.account()
    assert_nothing_changes(world, _documented(CLUSTER))
    assert world.account() == created


def test_manifest_stays_unchanged_and_a_dry_run_shows_injection(world: World) -> None:
    setup_pod, _ = _documented(SIDECAR)
    dry_run = setup_pod.replace(">cart.yaml", "--dry-run")
    world.run(setup_pod)
    assert "+        - name: irsa-sidecar\n" in world.run(dry_run)
    assert world.run(dry_run.replace("app.yaml", "cart.yaml")) == ""


def test_published_keys_equal_the_clusters_keys(world: World) -> None:
    for step in commands(OWN_ISSUER, PUBLISH):
        world.run(step)
    (check,) = commands(OWN_ISSUER, "If the documents are not in a bucket")
    assert "missing" not in world.run(check)


def _documented(section: str) -> list[str]:
    """Return the commands of that section of the tutorial that a test runs."""
    found = blocks(FIRST_POD, section, "sh")
    return [line for block in found if "not run" not in block.notes for line in lines_of(block)]


def assert_nothing_changes(world: World, steps: list[str]) -> None:
    for step in steps:
        printed = world.run(step)
        if step.startswith("aws s3 sync") or step.endswith(">cart.yaml"):
            assert printed == ""
        else:
            word = "unchanged" if step.startswith("kubectl") else "nothing to change"
            output = [line for line in printed.splitlines() if not line.startswith("next: ")]
            assert output
            assert all(word in line for line in output), printed
