"""
Rotate the signing key of two real API servers with `setup rotate`, and verify old and new tokens after each step.

The API servers need no root and no node: CLUSTER=control.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import jwt
import pytest

from sidecar.setup.discovery_documents import KEYS_PATH
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.steps.rotate import RECORD_PATH, WAITS
from tests.cluster.api_servers import ApiServers, Keys, two_api_servers
from tests.cluster.aws_proxy import AwsProxy, aws_proxy
from tests.support.fakes.internet import Internet, internet
from tests.support.fakes.moto_server import moto_server
from tests.unit.setup.conftest import Authorities

ISSUER = "https://oidc.example.com/clusters/shop"
BUCKET, PREFIX = "shop-oidc", "clusters/shop"
AUDIENCE = "sts.amazonaws.com"
OLD, NEW = "old", "new"
TOKEN_SECONDS = 600


class Done(NamedTuple):
    """The exit status, the last line of stdout, and stderr."""

    status: int
    last_line: str
    err: str


class Rotation:
    """A cluster with two API servers, whose issuer's documents are in a bucket."""

    def __init__(self, servers: ApiServers, aws: AwsProxy, net: Internet, folder: Path) -> None:
        self.servers, self.aws, self._net, self._folder = servers, aws, net, folder
        self.authorities = Authorities(folder)
        net.serve("oidc.example.com", self.authorities.server(self.authorities.private, "oidc.example.com"))
        self.s3 = boto3.client(
            "s3",
            endpoint_url=aws.target,
            region_name="eu-west-1",
            aws_access_key_id="AKIAFAKE",
            aws_secret_access_key="secret",
        )
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def rotate(self, mode: str) -> Done:
        """Run the command as an operator does. The issuer's URL then serves the bucket."""
        flags = [mode, "--cache-seconds=0", f"--token-lifetime={TOKEN_SECONDS}"]
        flags.append(f"--ca-file={self.authorities.private_file}")
        command = [sys.executable, "-m", "sidecar", "setup", "rotate", f"s3://{BUCKET}/{PREFIX}", *flags]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr)
        self._serve()
        return Done(done.returncode, done.stdout.strip().rpartition("\n")[2], done.stderr)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_SIDECAR_"))}
        return kept | {
            "AWS_ACCESS_KEY_ID": "AKIAFAKE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": self.aws.url,
            "HOME": str(self._folder),
            "HTTPS_PROXY": self._net.proxy_url,
            "NO_PROXY": "127.0.0.1",
            "KUBECONFIG": str(self.servers.layouts[0].kubeconfig()),
        }

    def _serve(self) -> None:
        for path in (DISCOVERY_PATH, KEYS_PATH):
            if (content := self.stored(path)) is not None:
                self._net.publish(ISSUER + path, content)

    def stored(self, path: str) -> Any:
        """Return the JSON document in the bucket, or None."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        if not any(each["Key"] == PREFIX + path for each in listed):
            return None
        return json.loads(self.s3.get_object(Bucket=BUCKET, Key=PREFIX + path)["Body"].read())

    def new_token(self, server: int) -> str:
        arguments = ("create", "token", "default", f"--audience={AUDIENCE}", f"--duration={TOKEN_SECONDS}s")
        issued: str = self.servers.kubectl(*arguments, server=server).stdout.strip()
        return issued

    def is_accepted_by_sts(self, token: str) -> bool:
        """Return whether the published keys verify the token, as at STS."""
        keys = {each["kid"]: each for each in self.stored(KEYS_PATH)["keys"]}
        kid = jwt.get_unverified_header(token)["kid"]
        if kid not in keys:
            return False
        jwt.decode(token, jwt.PyJWK(keys[kid]).key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)
        return True

    def is_accepted_by_cluster(self, token: str, server: int) -> bool:
        spec = {"token": token, "audiences": [AUDIENCE]}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        arguments = ("create", "--output=json", "--filename=-")
        done = self.servers.kubectl(*arguments, stdin=json.dumps(review), server=server)
        return bool(json.loads(done.stdout)["status"].get("authenticated"))


@pytest.fixture
def rotation(tmp_path: Path) -> Iterator[Rotation]:
    with (
        two_api_servers(tmp_path / "cluster", ISSUER, Keys(OLD, (OLD,))) as servers,
        moto_server() as moto,
        aws_proxy(moto.url) as aws,
        internet() as net,
    ):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        servers.kubectl("create", "--filename=-", stdin=json.dumps(account))
        found = Rotation(servers, aws, net, tmp_path)
        yield found
        found.s3.close()


def test_rotation_breaks_no_token(rotation: Rotation) -> None:
    """Each API server is restarted alone, as in a rolling change of static Pods, and the command runs in between."""
    servers, both = rotation.servers, (OLD, NEW)
    assert rotation.rotate("--check")[:1] == (WAITS,)
    assert rotation.rotate("--step").last_line.startswith("done: published ")
    assert rotation.rotate("--check").status == 0
    old_token = rotation.new_token(0)
    assert rotation.is_accepted_by_sts(old_token)
    old_kid = jwt.get_unverified_header(old_token)["kid"]

    # One API server accepts the new key. Nobody may sign with it yet.
    servers.certificates.make_token_key(NEW)
    servers.restart(0, Keys(OLD, both))
    assert rotation.rotate("--step").last_line.startswith("done: published ")
    lacking = rotation.rotate("--step")
    assert (lacking.status, "--service-account-key-file of each API server. One lacks it" in lacking.last_line) == (
        WAITS,
        True,
    )
    servers.restart(1, Keys(OLD, both))
    assert "next: set --service-account-signing-key-file" in rotation.rotate("--step").last_line

    # One API server signs with the new key, and the other one still with the old key.
    servers.restart(0, Keys(NEW, both))
    assert rotation.rotate("--step").last_line.startswith("done: recorded which keys sign: ")
    tokens = [rotation.new_token(0), rotation.new_token(1)]
    new_kid = jwt.get_unverified_header(tokens[0])["kid"]
    assert [jwt.get_unverified_header(each)["kid"] for each in tokens] == [new_kid, old_kid]
    assert new_kid != old_kid
    assert all(rotation.is_accepted_by_sts(each) for each in (old_token, *tokens))
    assert all(rotation.is_accepted_by_cluster(each, server) for each in tokens for server in (0, 1))
    assert rotation.rotate("--step").status == 0
    assert rotation.stored(f"/{RECORD_PATH}")["signed"] == {old_kid: None, new_kid: None}

    servers.restart(1, Keys(NEW, both))
    assert rotation.rotate("--step").last_line == f"done: recorded which keys sign: {old_kid}"
    waiting = rotation.rotate("--step")
    assert (waiting.status, f"wait: tokens of {old_kid} are valid until" in waiting.last_line) == (WAITS, True)
    assert all(rotation.is_accepted_by_sts(each) for each in (old_token, *tokens))

    # The operator removes the old key from the API servers too early, and adds it again.
    for server in (0, 1):
        servers.restart(server, Keys(NEW, (NEW,)))
    early = rotation.rotate("--step")
    assert f"The API servers no longer accept tokens of {old_kid}, which Pods may still have" in early.err
    assert not rotation.is_accepted_by_cluster(old_token, 0)
    assert rotation.is_accepted_by_sts(old_token)
    for server in (0, 1):
        servers.restart(server, Keys(NEW, both))
    assert rotation.rotate("--check").err == ""
    assert rotation.is_accepted_by_cluster(old_token, 0)

    # All tokens of the old key have expired on S3's clock.
    rotation.aws.ahead_seconds = TOKEN_SECONDS + 2_000
    assert f"next: remove {old_kid} from --service-account-key-file" in rotation.rotate("--step").last_line
    for server in (0, 1):
        servers.restart(server, Keys(NEW, (NEW,)))
    assert rotation.rotate("--step").last_line == f"done: removed {old_kid} from the bucket"
    assert rotation.rotate("--check").status == 0
    assert not rotation.is_accepted_by_sts(old_token)
    assert [rotation.is_accepted_by_sts(rotation.new_token(server)) for server in (0, 1)] == [True, True]
    assert rotation.stored(f"/{RECORD_PATH}")["signed"] == {new_kid: None}
