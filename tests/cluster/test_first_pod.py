"""
Follow docs/first-pod.md on kind: a Pod gets credentials from the STS of `irsa-sidecar local` in the cluster.

The commands run unchanged, except for names: images are those of this checkout, the issuer is the cluster's, and the
application is a program with boto3. The cluster has no DNS, so the STS has its Service's address instead of its name.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.applications import APPLICATION_IMAGE, IMAGE, PRELUDE, TOOLS_IMAGE
from tests.cluster.cluster import Cluster
from tests.cluster.layout import ISSUER
from tests.cluster.waiting import wait_until
from tests.docs.checkout import script
from tests.support.documents import Block, blocks

PAGE = "docs/first-pod.md"
KIND_ISSUER = "kubernetes.default.svc.cluster.local"
TUTORIAL_IMAGE = "registry.example.com/irsa-sidecar:0.1.0"
APPLICATION = """\
          image: public.ecr.aws/aws-cli/aws-cli
          command: [sh, -c, "aws sts get-caller-identity && sleep infinity"]
"""
PROGRAM = f"{PRELUDE}report(who_am_i())\nuntil_stopped()"


class Tutorial:
    """A reader's folder and terminal. `namespace` replaces the namespace `shop`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self.namespace = f"first-pod-{uuid.uuid4().hex[:8]}"
        programs = folder / "bin"
        programs.mkdir()
        cluster.put_kubectl(programs)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {"PATH": path, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(folder)}

    def run(self, section: str) -> str:
        """Run the blocks of that section and return their output."""
        found = [self._adapted(block) for block in blocks(PAGE, section) if {"file", "run by"} & set(block.notes)]
        done = subprocess.run(
            [*self._cluster.inside(), "bash", "-euo", "pipefail", "-c", script(found)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _adapted(self, block: Block) -> Block:
        """Return the block with the names of this cluster."""
        application = f"          image: {APPLICATION_IMAGE}\n          args: [{json.dumps(PROGRAM)}]\n"
        text = block.text.replace(APPLICATION, application)
        text = text.replace(f"{TUTORIAL_IMAGE}-tools", TOOLS_IMAGE).replace(TUTORIAL_IMAGE, IMAGE)
        text = text.replace(f"https://{KIND_ISSUER}", ISSUER).replace(KIND_ISSUER, ISSUER.removeprefix("https://"))
        if "local-sts.shop" in text:
            text = text.replace("local-sts.shop", self._address_of_sts())
        text = text.replace("namespace: shop", f"namespace: {self.namespace}").replace(":shop:", f":{self.namespace}:")
        text = text.replace("namespace shop", f"namespace {self.namespace}")
        return block._replace(text=text)

    def _address_of_sts(self) -> str:
        service = self._cluster.get(f"--namespace={self.namespace}", "service", "local-sts")
        return str(service["spec"]["clusterIP"])

    def close(self) -> None:
        self._cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture
def tutorial(node: Cluster, tmp_path: Path) -> Iterator[Tutorial]:
    followed = Tutorial(node, tmp_path)
    yield followed
    followed.close()


def test_pod_on_kind_has_the_role_of_its_service_account(tutorial: Tutorial) -> None:
    for section in ("Before you start", "1. Create the cluster", "2. Start the local STS", "3. Run the Pod"):
        tutorial.run(section)
    identity = f"arn:aws:sts::111122223333:assumed-role/cart/{tutorial.namespace}.cart-"
    logs = wait_until(lambda: _with(tutorial.run("4. See both sides"), identity), "the identity in the logs")
    assert "exchange_granted" in logs


def _with(output: str, text: str) -> str | None:
    return output if text in output else None
