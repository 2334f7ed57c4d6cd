"""Check k8s/audit: valid in each Kubernetes version, and with exactly the rights that the command uses."""

import json

import pytest
import yaml
from kubernetes_validate import latest_version, validate

from sidecar import __version__, cli
from sidecar.audit.accepted import read_acceptances
from sidecar.audit.collect_aws import ACTIONS
from sidecar.audit.collect_kubernetes import KINDS
from sidecar.audit.rules.all import RULES
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from tests.support.documents import blocks
from tests.support.manifests import K8S, pods, read

PAGE = "docs/audit.md"
FILES = ("namespace.yaml", "rbac.yaml", "cronjob.yaml")
VERSIONS = [f"1.{minor}" for minor in range(29, int(latest_version().split(".")[1]) + 1)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_audit_manifest_is_valid_in_each_kubernetes(file: str, version: str) -> None:
    for document in read(f"audit/{file}"):
        validate(document, version, strict=True)


def test_kustomization_has_every_manifest() -> None:
    (found,) = read("audit/kustomization.yaml")
    assert tuple(found["resources"]) == FILES


def test_cluster_role_has_exactly_the_rights_of_the_audit() -> None:
    """Compare with the paths that the command reads. `tests/cluster/test_audit.py` uses the role on an API server."""
    (role,) = [each for each in read("audit/rbac.yaml") if each["kind"] == "ClusterRole"]
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", [None])
        for resource in rule.get("resources", rule.get("nonResourceURLs"))
    }
    assert granted == {("list", *_resource(kind.path)) for kind in KINDS} | {("get", None, DISCOVERY_PATH)}
    assert not [rule for rule in role["rules"] if "resourceNames" in rule]


def _resource(path: str) -> tuple[str, str]:
    """Return the API group and the resource of a path such as `/apis/networking.k8s.io/v1/networkpolicies`."""
    parts = path.split("/")
    return (parts[2] if parts[1] == "apis" else "", parts[-1])


def test_printed_policy_has_exactly_the_actions_of_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "--print-policy"]) == 0
    (statement,) = json.loads(capsys.readouterr().out)["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")
    assert statement["Action"] == sorted(ACTIONS)


def test_job_runs_the_command_of_the_tools_image() -> None:
    (pod,) = pods(read("audit/cronjob.yaml"))
    (container,) = pod["spec"]["containers"]
    assert container["image"] == f"irsa-sidecar:{__version__}-tools"
    arguments = [text.replace("$(EKS_CLUSTER)", "shop") for text in container["args"]]
    mounted = f"{container['volumeMounts'][0]['mountPath']}/accepted.yaml"
    here = [text.replace(mounted, str(K8S / "audit/accepted.yaml")) for text in arguments]
    assert cli.main([*here, "--print-policy"]) == 0


def test_accepted_findings_of_the_manifest_are_valid() -> None:
    path = K8S / "audit/accepted.yaml"
    entries = read_acceptances(path.read_bytes(), str(path))
    assert entries
    assert {each.rule for each in entries} <= {rule.id for rule in RULES}


def test_page_and_comment_show_the_same_audit_overlay() -> None:
    (shown,) = [block.text for block in blocks(PAGE, language="yaml") if block.text.startswith("resources: [../k8s/")]
    lines = (K8S / "audit/kustomization.yaml").read_text().splitlines()
    assert "".join(line.removeprefix("#     ") + "\n" for line in lines if line.startswith("#     ")) == shown
    names = {each["name"] for each in yaml.safe_load(shown)["configMapGenerator"]}
    (base,) = read("audit/kustomization.yaml")
    assert names <= {each["name"] for each in base["configMapGenerator"]}
