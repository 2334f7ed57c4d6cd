"""
Follow pages of the documentation in a cluster, as a reader does.

Commands run unchanged, except for names: the images are those of this checkout, the issuer is the cluster's, and the
application is a program with boto3. The cluster has no DNS, so the local STS has its Service's address.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from sidecar import __version__
from tests.cluster.applications import APPLICATION_IMAGE, IMAGE, PRELUDE, TOOLS_IMAGE
from tests.cluster.cluster import Cluster, Done
from tests.cluster.layout import ISSUER
from tests.docs.checkout import script
from tests.support.documents import Block, blocks
from tests.support.manifests import K8S

KIND_ISSUER = "kubernetes.default.svc.cluster.local"
REPOSITORY = "registry.example.com/irsa-sidecar"
APPLICATION = """\
          image: public.ecr.aws/aws-cli/aws-cli
          command: [sh, -c, "aws sts get-caller-identity && sleep infinity"]
"""
PROGRAM = f"{PRELUDE}report(who_am_i())\nuntil_stopped()"


class Reader:
    """A person with a folder, a terminal and a cluster. `namespace` replaces the namespace `shop` of the pages."""

    def __init__(self, cluster: Cluster, folder: Path, test: str) -> None:
        self._cluster, self._folder, self._test = cluster, folder, test
        self.namespace = f"reader-{uuid.uuid4().hex[:8]}"
        programs = folder / "bin"
        programs.mkdir()
        cluster.put_kubectl(programs)
        shutil.copytree(K8S, folder / "k8s")
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {
            "PATH": path,
            "KUBECONFIG": str(cluster.kubeconfig),
            "HOME": str(folder),
            "AWS_REGION": "eu-west-1",
        }

    def try_out(self, page: str, section: str) -> Done:
        """Write the files of that section, then run its blocks that are marked for this test."""
        own = [block for block in blocks(page, section) if "file" in block.notes or self._is_own(block)]
        assert own, f"{page} has no blocks in a section {section!r}"
        assert any(map(self._is_own, own)) or all("file" in block.notes for block in own)
        return subprocess.run(
            [*self._cluster.inside(), "bash", "-euo", "pipefail", "-c", script(map(self._adapted, own))],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, page: str, section: str) -> str:
        """Run the blocks of that section as `try_out` does, and return their output."""
        done = self.try_out(page, section)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _is_own(self, block: Block) -> bool:
        return block.notes.get("run by") == self._test

    def _adapted(self, block: Block) -> Block:
        """Return the block with the names of this cluster."""
        application = f"          image: {APPLICATION_IMAGE}\n          args: [{json.dumps(PROGRAM)}]\n"
        repository, _, tag = TOOLS_IMAGE.partition(":")
        renamed = {
            APPLICATION: application,
            f"newName: {REPOSITORY}}}": f"newName: {repository}, newTag: {tag}}}",
            f"{REPOSITORY}:{__version__}-tools": TOOLS_IMAGE,
            f"{REPOSITORY}:{__version__}": IMAGE,
            f"https://{KIND_ISSUER}": ISSUER,
            KIND_ISSUER: ISSUER.removeprefix("https://"),
            "namespace: shop": f"namespace: {self.namespace}",
            "namespace shop": f"namespace {self.namespace}",
            ":shop:": f":{self.namespace}:",
        }
        text = block.text
        for name, own in renamed.items():
            text = text.replace(name, own)
        if "local-sts.shop" in text:
            text = text.replace("local-sts.shop", self._address_of_sts())
        return block._replace(text=text)

    def _address_of_sts(self) -> str:
        service = self._cluster.get(f"--namespace={self.namespace}", "service", "local-sts")
        return str(service["spec"]["clusterIP"])

    def close(self) -> None:
        self._cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
