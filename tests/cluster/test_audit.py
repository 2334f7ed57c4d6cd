"""
Audit the objects of nearly all cases on a real API server with the permissions of k8s/audit, and in moto's account.

The command reads the cluster from inside of the cluster's network, where it cannot connect to moto. The test therefore
reads the account, and then the command judges the saved inventory with `--from`.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from sidecar.audit.collect_aws import read_account
from sidecar.audit.inventory import Cluster as AuditedCluster
from sidecar.audit.inventory import Inventory
from sidecar.audit.saved import load, save
from sidecar.setup.aws import Aws
from tests.cluster.cluster import Cluster
from tests.support.fakes.moto_server import MotoServer, moto_server
from tests.support.manifests import K8S
from tests.unit.audit.documents import ISSUER, NEAR_NODE, Document
from tests.unit.audit.seeded import case_of, put_objects, seed_account
from tests.unit.audit.world import CASES, Case

NAMESPACE = "irsa-sidecar-audit"

SEEDED = [case for case in CASES if not case.is_old]
"""The cases without a date in the past, which moto cannot create."""

Found = dict[str, set[str]]


@pytest.fixture(scope="module")
def seeded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Create the objects of the cases in SEEDED, and yield the directory with the saved inventory."""
    folder = tmp_path_factory.mktemp("audit")
    with moto_server() as moto:
        instances = seed_account(moto.url, SEEDED)
        _create_objects(cluster, instances)
        cluster.kubectl("apply", f"--kustomize={K8S / 'audit'}")
        try:
            _save_cluster(cluster, folder)
            save(Inventory(load(str(folder)).cluster, _account(moto, load(str(folder)).cluster)), str(folder))
            yield folder
        finally:
            cluster.kubectl("delete", f"--kustomize={K8S / 'audit'}", "--wait=false")
            names = [f"namespace/{case.name}" for case in SEEDED]
            cluster.kubectl("delete", *names, *(f"node/{name}" for name in instances), "--wait=false")


def _create_objects(cluster: Cluster, instances: dict[str, str]) -> None:
    """Create the objects in the order of their dependencies. The status of a Pod needs a separate request."""
    found: list[Document] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": c.name}} for c in SEEDED]
    put_objects(SEEDED, instances, lambda _path, document: found.append(_complete(document)))
    order = ("Namespace", "Node", "ServiceAccount", "NetworkPolicy", "Pod")
    for kind in order:
        text = yaml.safe_dump_all([document for document in found if document["kind"] == kind])
        cluster.kubectl("apply", "--server-side", "--validate=strict", "--filename=-", stdin=text)
    for document in found:
        if document.get("status", {}).get("phase") == "Succeeded":
            metadata, patch = document["metadata"], json.dumps({"status": {"phase": "Succeeded"}})
            flags = ("--subresource=status", f"--namespace={metadata['namespace']}", f"--patch={patch}")
            cluster.kubectl("patch", "pod", metadata["name"], *flags)


def _complete(document: Document) -> Document:
    """Return the document without the fields of the API server, and with a volume for each mount of a Pod."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "creationTimestamp"}
    if document["kind"] != "Pod":
        return document | {"metadata": metadata}
    spec = document["spec"]
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    names = dict.fromkeys(mount["name"] for each in containers for mount in each.get("volumeMounts", ()))
    return document | {
        "metadata": metadata,
        "spec": spec | {"volumes": [{"name": name, "emptyDir": {}} for name in names]},
    }


def _save_cluster(cluster: Cluster, folder: Path) -> None:
    """Run the command with the rights of k8s/audit, and without AWS credentials."""
    (folder / "kubeconfig").write_text(yaml.safe_dump(_kubeconfig(cluster)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_SIDECAR_"))}
    environment = kept | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "kubeconfig"),
    }
    flags = [f"--issuer={ISSUER}", "--cluster=lab", f"--save={folder}", "--fail-on=never", "--output=json"]
    command = [*cluster.inside(), sys.executable, "-m", "sidecar", "audit", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load(str(folder)).cluster.problems == ()


def _kubeconfig(cluster: Cluster) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "audit", f"--namespace={NAMESPACE}").stdout.strip()
    document["users"] = [{"name": each["name"], "user": {"token": token}} for each in document["users"]]
    return document


def _account(moto: MotoServer, cluster: AuditedCluster) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACCESS_KEY_ID", "AKIAFAKE"), ("SECRET_ACCESS_KEY", "secret"), ("ENDPOINT_URL", moto.url)):
            patch.setenv(f"AWS_{name}", value)
        with Aws(region="eu-west-1") as aws:
            return trio.run(read_account, aws, cluster, lambda _text: None)


@pytest.fixture(scope="module")
def found(seeded: Path) -> Found:
    """Return the rules that found something, by the name of the case."""
    command = [sys.executable, "-m", "sidecar", "audit", f"--from={seeded}", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=seeded)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    print(f"{len(CASES)} cases, {len(SEEDED)} seeded:", dict(Counter(each["rule"] for each in findings)))
    rules: Found = {}
    for each in findings:
        rules.setdefault(case_of(each), set()).add(each["rule"])
    return rules


@pytest.mark.parametrize("case", SEEDED, ids=lambda case: case.name)
def test_case_on_a_real_api_server_has_exactly_its_findings(found: Found, case: Case) -> None:
    assert found.get(case.name, set()) == case.rules


def test_audit_reads_everything_with_the_rights_of_the_manifest(seeded: Path) -> None:
    inventory = load(str(seeded))
    assert len(inventory.cluster.service_accounts) > 40
    assert NEAR_NODE in {node.name for node in inventory.cluster.nodes}
    assert inventory.cluster.egress_policies
    assert inventory.account.problems == ()
