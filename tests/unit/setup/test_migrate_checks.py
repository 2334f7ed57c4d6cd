"""Test what `setup migrate` checks before it changes an account or restarts Pods, and its attempts after conflicts."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import KubernetesError
from sidecar.injection.names import EKS_ROLE_ARN, INJECT_LABEL
from sidecar.kubernetes.client import Kubernetes
from sidecar.setup import restart_check
from sidecar.setup.aws import Aws
from sidecar.setup.aws_error import AwsError
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.migration_record import CONFLICTS
from sidecar.setup.restart_check import ATTEMPTS, pod_of
from tests.support.fakes.moto_server import ACCOUNT_ID
from tests.unit.setup.migration_world import DEPLOYMENT, POD, RECORD, World, current_record, without_empty

PODS = "/api/v1/namespaces/shop/pods"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_check, "PAUSE_SECONDS", 0)


# The cluster


@pytest.mark.parametrize("flag", ["--cluster", "--issuer"])
def test_cluster_of_the_kubeconfig_must_be_the_selected_one(world: World, flag: str) -> None:
    world.use("irsa")
    before = world.state()
    selected = "shop" if flag == "--cluster" else world.issuer
    arguments = ("migrate", "--from", "irsa", "--to", "sidecar", "--namespace", "shop", flag, selected)
    with world.issuer_of_api_server("https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER"):
        done = world.account.setup(*arguments)
    assert (done.status, world.state(), RECORD.exists()) == (2, before, False)
    assert (
        f"{flag} selects the issuer {world.issuer}, but the API server of context lab has the issuer https" in done.err
    )
    assert world.account.setup(*arguments).status == 0


def test_other_cluster_is_rejected_when_a_migration_continues(world: World) -> None:
    world.use("irsa")
    world.run("irsa", "pod-identity")
    before = world.state()
    with world.issuer_of_api_server("https://other.example.com"):
        done = world.run("irsa", "pod-identity", "--undo")
    assert (done.status, world.state()) == (2, before)


def test_denied_discovery_document_needs_the_address_of_eks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use("irsa")
    world.fake.broken[DISCOVERY_PATH] = (403, {"message": "forbidden"})
    denied = world.run("irsa", "sidecar", "--dry-run")
    assert (denied.status, f"permission to GET {DISCOVERY_PATH}" in denied.err) == (1, True)
    endpoint = world.eks.describe_cluster(name="shop")["cluster"]["endpoint"]
    monkeypatch.setattr(Kubernetes, "server", property(lambda _: endpoint, lambda *_: None), raising=False)
    assert world.run("irsa", "sidecar", "--dry-run").status == 0


def test_unreadable_role_stops_only_its_service_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use("irsa")
    world.put_account("other", **{EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/secret"})
    real, code = Aws.call, "AccessDenied"

    def call(self: Aws, service: str, operation: str, **parameters: Any) -> Any:
        if parameters == {"RoleName": "secret"}:
            raise AwsError(code, f"AWS rejected iam:{operation} ({code}: No)")
        return real(self, service, operation, **parameters)

    monkeypatch.setattr(Aws, "call", call)
    done = world.run("irsa", "sidecar", "--dry-run")
    assert done.status == 0
    assert "cannot be kept: shop/other is not moved: AWS rejected iam:GetRole (AccessDenied: No)" in done.out
    assert "switch: restart Deployment shop/cart\n" in done.out
    code = "Throttling"
    assert world.run("irsa", "sidecar", "--dry-run").status == 1


def test_kubeconfig_without_a_cluster_is_reported(world: World, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    done = world.run("irsa", "sidecar")
    assert (done.status, "names no usable current context" in done.err, RECORD.exists()) == (2, True, False)


# The new source


@pytest.mark.parametrize(("source", "target"), [("irsa", "sidecar"), ("kube2iam", "pod-identity")])
def test_pods_restart_only_if_they_get_the_new_source(world: World, source: str, target: str) -> None:
    world.use(source)
    before = world.state()
    world.late = 10**9
    done = world.run(source, target)
    assert done.status == 1
    assert f"A new Pod of {DEPLOYMENT} would get no " in done.err
    assert world.late == 10**9 - ATTEMPTS
    assert "restart Deployment" not in [line for line in done.out.splitlines() if line.startswith("done: ")]
    assert world.state()[3] == before[3]
    world.late = 0
    assert world.run(source, target).status == 0
    assert world.run(source, target, "--undo").status == 0
    assert [without_empty(each) for each in world.state()] == [without_empty(each) for each in before]


def test_new_association_is_visible_after_some_seconds(world: World) -> None:
    """EKS reads new associations late. All workloads together wait for one period."""
    world.use("irsa")
    world.late = ATTEMPTS - 1
    assert world.run("irsa", "pod-identity").status == 0
    dry = [target for method, target in world.fake.requests if method == "POST" and target.startswith(PODS)]
    assert len(dry) == ATTEMPTS + 1
    assert all("dryRun=All" in target for target in dry)
    assert not any(path.startswith(f"{PODS}/") for path in world.fake.documents)


def test_rejected_pod_stops_before_the_restart(world: World) -> None:
    world.use("irsa")
    before = world.templates()[0]["metadata"].copy()
    world.fake.broken[PODS] = (403, {"message": 'violates PodSecurity "restricted:latest"'})
    done = world.run("irsa", "sidecar")
    assert (done.status, world.templates()[0]["metadata"]) == (1, before)
    assert f"A new Pod of {DEPLOYMENT} cannot be created, so nothing was restarted: " in done.err
    assert len([method for method, _ in world.fake.requests if method == "POST"]) == ATTEMPTS
    assert 'violates PodSecurity "restricted:latest"' in done.err


def test_webhook_without_dry_runs_is_named(world: World) -> None:
    world.use("irsa")
    message = 'admission webhook "scanner.example.com" does not support dry run'
    world.fake.broken[PODS] = (400, {"message": message})
    done = world.run("irsa", "sidecar")
    assert (done.status, message in done.err, "sideEffects" in done.err) == (1, True, True)
    assert len([method for method, _ in world.fake.requests if method == "POST"]) == 1


def test_missing_right_to_create_pods_is_named_at_once(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("create", "pods"))
    done = world.run("irsa", "sidecar")
    assert (done.status, "permission to create pods" in done.err) == (1, True)
    assert len([method for method, _ in world.fake.requests if method == "POST"]) == 1


def test_rejection_before_policies_know_a_role_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use("irsa")
    left, real = [3], Kubernetes.create

    def create(self: Kubernetes, path: str, document: Any, *, dry_run: bool = False) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise KubernetesError("rejected", status=422, reason="the policy does not know the ServiceAccount")
        return real(self, path, document, dry_run=dry_run)

    monkeypatch.setattr(Kubernetes, "create", create)
    assert world.run("irsa", "sidecar").status == 0
    assert left == [-2]


def test_missing_right_stops_before_a_restart(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("patch", "cronjobs"))
    done = world.run("irsa", "sidecar")
    assert (done.status, "permission to patch cronjobs" in done.err) == (1, True)
    assert INJECT_LABEL not in world.templates()[0]["metadata"]["labels"]


def test_undo_restarts_pods_although_the_check_fails(world: World) -> None:
    """The former state is better than a state between the two."""
    world.use("pod-identity")
    before = world.state()
    world.run("pod-identity", "sidecar")
    world.late = 10**9
    undone = world.run("pod-identity", "sidecar", "--undo")
    assert (undone.status, "would get no token of EKS Pod Identity" in undone.err) == (0, True)
    assert [without_empty(each) for each in world.state()] == [without_empty(each) for each in before]


def test_pod_of_a_stateful_set_has_the_volumes_of_its_claims() -> None:
    claims = [{"metadata": {"name": "data"}}]
    template = {"spec": {"containers": [], "volumes": [{"name": "tmp", "emptyDir": {}}]}}
    pod = pod_of({"spec": {"template": template, "volumeClaimTemplates": claims}})
    assert [each["name"] for each in pod["spec"]["volumes"]] == ["tmp", "data"]
    assert template["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}]


# Conflicts


def _changing(world: World, times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a controller write the Deployment's status just before each of the next changes. Return the number left."""
    left, real = [times], Kubernetes.patch

    def patch(self: Kubernetes, path: str, change: Any, *, dry_run: bool = False) -> Any:
        if path == DEPLOYMENT and not dry_run and left[0]:
            left[0] -= 1
            world.fake.put(DEPLOYMENT, {**world.fake.documents[DEPLOYMENT], "status": {"replicas": left[0]}})
        return real(self, path, change, dry_run=dry_run)

    monkeypatch.setattr(Kubernetes, "patch", patch)
    return left


def test_conflict_with_a_controller_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use("irsa")
    left = _changing(world, CONFLICTS, monkeypatch)
    done = world.run("irsa", "sidecar")
    assert (done.status, left) == (0, [0])
    assert world.templates()[0]["metadata"]["labels"][INJECT_LABEL] == "true"


def test_permanent_conflict_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use("irsa")
    left = _changing(world, 10**9, monkeypatch)
    done = world.run("irsa", "sidecar")
    assert (done.status, "the object has been modified" in done.err) == (1, True)
    assert left == [10**9 - CONFLICTS - 1]
    assert current_record().left[0].target == DEPLOYMENT


# Objects in another form


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{PODS[:-4]}serviceaccounts", {"items": [{"metadata": {}}]}),
        (f"{PODS[:-4]}serviceaccounts", {"items": [5]}),
        ("/apis/apps/v1/namespaces/shop/deployments", {"items": [{"metadata": {"name": "x"}, "spec": "text"}]}),
        (DEPLOYMENT, {"metadata": {"name": "cart", "namespace": "shop", "resourceVersion": "1"}, "spec": {}}),
        (PODS, {"metadata": {}}),
    ],
)
def test_object_in_an_unknown_form_is_an_error(world: World, path: str, body: Any) -> None:
    world.use("irsa")
    world.fake.broken[path] = (200, body)
    done = world.run("irsa", "sidecar")
    assert (done.status, "is not a Kubernetes object" in done.err) == (1, True)
    assert EKS_ROLE_ARN in world.annotations()


def test_large_objects_are_read(world: World) -> None:
    """A Pod of 5 MiB does not stop the check of --finish."""
    world.use("pod-identity")
    world.run("pod-identity", "sidecar")
    metadata = {"name": "large", "annotations": {"note": "x" * 5 * 1024 * 1024}}
    spec = {"serviceAccountName": "cart", "containers": []}
    world.fake.put(POD, {"kind": "Pod", "metadata": metadata, "spec": spec})
    done = world.run("pod-identity", "sidecar", "--finish")
    assert (done.status, "Pods have no sidecar yet, such as large" in done.err) == (1, True)
