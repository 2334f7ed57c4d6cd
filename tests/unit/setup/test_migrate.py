"""Test `setup migrate` with moto's IAM and EKS and a fake API server, for each pair of sources."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import SidecarError
from sidecar.injection.names import EKS_AUDIENCE, EKS_ROLE_ARN, INJECT_LABEL
from sidecar.setup.migration import (
    KUBE2IAM_ROLE,
    POD_IDENTITY_STATEMENT,
    RESTARTED_AT,
    Change,
    Kind,
    Phase,
    merge_patch,
    values_at,
)
from sidecar.setup.migration_record import Record, read_record, write_record
from tests.support.documents import commands
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.moto_server import ACCOUNT_ID
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


class World:
    """A namespace with the ServiceAccount `cart`, a Deployment and a CronJob, and the role `cart` in the account."""

    def __init__(self, fake: FakeApiServer, account: Account) -> None:
        self.fake, self.account = fake, account
        self.eks, self.iam = account.client("eks"), account.iam
        created = self.eks.create_cluster(
            name="shop", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={}
        )
        self.issuer = created["cluster"]["identity"]["oidc"]["issuer"]
        self.iam.create_open_id_connect_provider(Url=self.issuer, ClientIDList=["sts.amazonaws.com"])
        self.create_role("cart")
        self.put_account("cart")
        self._put(DEPLOYMENT, "Deployment", {"template": self._template("cart")})
        self._put(CRON_JOB, "CronJob", {"jobTemplate": {"spec": {"template": self._template("cart")}}})
        fake.put(CONFIGURATION, {"metadata": {"name": "irsa-sidecar"}, "webhooks": [{"objectSelector": INJECT_LABEL}]})

    def create_role(self, name: str) -> None:
        document = {"Version": "2012-10-17", "Statement": [NODES]}
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))

    def put_account(self, name: str, **annotations: str) -> None:
        metadata = {"name": name, "namespace": "shop", "annotations": annotations}
        self.fake.put(f"{SERVICE_ACCOUNTS}/{name}", {"metadata": metadata})

    def _put(self, path: str, kind: str, spec: Any) -> None:
        name = path.rpartition("/")[2]
        self.fake.put(path, {"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})

    @staticmethod
    def _template(account: str) -> Any:
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

    def run(self, source: str, target: str, *arguments: str, cluster: str = "shop") -> CommandResult:
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


@pytest.fixture
def world(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(fake.url)))
        yield World(fake, account)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_migration_switches_the_source_and_can_be_undone(world: World, source: str, target: str) -> None:
    world.use(source)
    before = world.state()
    planned = world.run(source, target, "--dry-run")
    assert (planned.status, world.state()) == (0, before)
    assert f"stays: shop/cart keeps role {ARN}" in planned.out
    assert "switch: restart Deployment shop/cart\n" in planned.out
    assert "switch: restart CronJob shop/report\n" in planned.out
    assert not Path("irsa-sidecar-migration-shop.json").exists()

    done = world.run(source, target)
    assert done.status == 0, done.err
    assert world.statements()[0] == NODES
    assert len(world.statements()) == 2
    templates = [template["metadata"] for template in world.templates()]
    assert all(KUBE2IAM_ROLE not in metadata.get("annotations", {}) for metadata in templates)
    if target == "sidecar":
        assert world.annotations() == {EKS_ROLE_ARN: ARN}
        assert [metadata["labels"][INJECT_LABEL] for metadata in templates] == ["true", "true"]
        (subject,) = [v for k, v in world.statements()[1]["Condition"]["StringEquals"].items() if k.endswith(":sub")]
        assert subject == "system:serviceaccount:shop:cart"
    else:
        assert world.statements()[1] == POD_IDENTITY_STATEMENT
        assert (world.annotations(), world.associations()) == ({}, ["cart"])
        assert all(metadata["annotations"][RESTARTED_AT].startswith("20") for metadata in templates)

    again = world.run(source, target)
    assert "done: " not in again.out
    assert world.run(source, target, "--finish").status == 0
    assert world.associations() == (["cart"] if target == "pod-identity" else [])
    undone = world.run(source, target, "--undo")
    assert undone.status == 0, undone.err
    assert [_without_none(each) for each in world.state()] == [_without_none(each) for each in before]
    assert not Path("irsa-sidecar-migration-shop.json").exists()


def _without_none(value: Any) -> Any:
    """Return the value without empty mappings, because a merge patch leaves an empty mapping of annotations."""
    if isinstance(value, dict):
        return {key: item for key, each in value.items() if (item := _without_none(each)) != {}}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


def test_documented_commands_run(world: World) -> None:
    world.use("pod-identity")
    dry_run, finish = commands("docs/migrate.md", "With one command")
    assert "finish: delete the association of shop/cart" in world.account.setup(*dry_run.split()[2:]).out
    assert world.account.setup(*dry_run.removesuffix(" --dry-run").split()[2:]).status == 0
    assert world.account.setup(*finish.split()[2:]).out.endswith(
        f"done: delete the association of shop/cart with {ARN}\n"
    )


def test_interrupted_migration_continues(world: World) -> None:
    """The API server rejects the second workload at first."""
    world.use("pod-identity")
    world.fake.forbidden.add(("patch", "cronjobs"))
    failed = world.run("pod-identity", "sidecar")
    assert failed.status == 1
    assert "cronjobs" in failed.err
    record = read_record(Path("irsa-sidecar-migration-shop.json"))
    assert record is not None
    assert (record.done, len(record.changes)) == (3, 5)
    world.fake.forbidden.clear()
    done = world.run("pod-identity", "sidecar")
    assert done.out == (
        "irsa-sidecar-migration-shop.json: 3 of 5 changes are made\n"
        "done: restart CronJob shop/report\n"
        "next: when all Pods have restarted, run this again with --finish\n"
    )


def test_old_source_stays_while_a_pod_uses_it(world: World) -> None:
    world.use("pod-identity")
    early = world.run("pod-identity", "sidecar", "--finish")
    assert (early.status, "Run this without --finish first" in early.err) == (1, True)
    world.run("pod-identity", "sidecar")
    pod = {"metadata": {"name": "cart-0"}, "spec": {"serviceAccountName": "cart", "containers": [{"name": "cart"}]}}
    world.fake.put("/api/v1/namespaces/shop/pods/cart-0", pod)
    late = world.run("pod-identity", "sidecar", "--finish")
    assert (late.status, "1 Pods have no sidecar yet, such as cart-0" in late.err) == (1, True)
    assert world.associations() == ["cart"]
    pod["spec"]["initContainers"] = [{"name": "irsa-sidecar"}]  # type: ignore[index]
    world.fake.put("/api/v1/namespaces/shop/pods/cart-0", pod)
    assert world.run("pod-identity", "sidecar", "--finish").status == 0
    assert world.associations() == []


def test_changed_target_is_not_overwritten(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("patch", "deployments"))
    world.run("irsa", "sidecar")
    world.fake.forbidden.clear()
    world.templates()[0]["metadata"]["labels"][INJECT_LABEL] = "false"
    done = world.run("irsa", "sidecar")
    assert done.status == 1
    assert "Somebody else changed /apis/apps/v1/namespaces/shop/deployments/cart" in done.err
    assert world.templates()[0]["metadata"]["labels"][INJECT_LABEL] == "false"


def test_deleted_workload_is_named(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("patch", "deployments"))
    world.run("irsa", "sidecar")
    world.fake.forbidden.clear()
    world.fake.remove(DEPLOYMENT)
    assert "deployments/cart does not exist any more" in world.run("irsa", "sidecar").err


# What cannot be moved or kept


def test_workloads_with_different_roles_are_not_moved(world: World) -> None:
    world.use("kube2iam")
    world.templates()[1]["metadata"]["annotations"][KUBE2IAM_ROLE] = "report"
    done = world.run("kube2iam", "sidecar")
    assert "cannot be kept: shop/cart is not moved: its workloads use the roles cart, report" in done.out
    assert "nothing to change" in done.out


@pytest.mark.parametrize(
    ("source", "target", "annotations", "words"),
    [
        ("irsa", "pod-identity", {EKS_ROLE_ARN: "arn:aws:iam::999999999999:role/cart"}, "not a role of this account"),
        ("irsa", "sidecar", {EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/none"}, "not a role of this account"),
        ("kube2iam", "sidecar", {EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/b"}, "annotated with another role"),
        ("irsa", "pod-identity", {EKS_ROLE_ARN: ARN, EKS_AUDIENCE: "mine"}, "loses its audience mine"),
    ],
)
def test_obstacle_is_named_in_the_plan(
    world: World, source: str, target: str, annotations: dict[str, str], words: str
) -> None:
    world.use(source)
    world.put_account("cart", **annotations)
    assert words in world.run(source, target, "--dry-run").out


def test_existing_association_is_an_obstacle(world: World) -> None:
    world.use("irsa")
    world.use("pod-identity")
    assert "it already has an association" in world.run("irsa", "pod-identity", "--dry-run").out


def test_service_account_without_workloads_is_not_moved(world: World) -> None:
    world.create_role("job")
    world.put_account("job", **{EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/job"})
    done = world.run("irsa", "sidecar", "--service-account", "job")
    assert "shop/job is not moved: no Deployment, StatefulSet, DaemonSet or CronJob uses it" in done.out


def test_settings_of_associations_and_agents_are_named(world: World) -> None:
    world.eks.create_pod_identity_association(
        clusterName="shop", namespace="shop", serviceAccount="cart", roleArn=ARN, targetRoleArn=f"{ARN}-data"
    )
    assert "loses the session tags" in world.run("pod-identity", "sidecar", "--dry-run").out
    world.use("kube2iam")
    world.templates()[0]["metadata"]["annotations"]["iam.amazonaws.com/external-id"] = "x"
    shown = world.run("kube2iam", "sidecar", "--dry-run").out
    assert "cannot be kept: Deployment shop/cart loses its annotation iam.amazonaws.com/external-id" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "pod-identity", "--to", "pod-identity", "--cluster", "shop"), "--from and --to are both"),
        (("--from", "irsa", "--to", "pod-identity"), "--cluster is not set"),
        (
            ("--from", "irsa", "--to", "sidecar", "--cluster", "shop", "--service-account", "x"),
            "--service-account is x",
        ),
        (("--from", "irsa", "--to", "sidecar", "--cluster", "shop", "--undo"), "there is no such file"),
    ],
)
def test_wrong_usage_is_explained(world: World, arguments: tuple[str, ...], words: str) -> None:
    done = world.account.setup("migrate", "--namespace", "shop", *arguments)
    assert done.status == 2
    assert words in done.err


def test_sidecar_needs_a_webhook_and_a_provider(world: World) -> None:
    world.use("irsa")
    world.eks.create_cluster(name="new", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={})
    assert "The account has no OIDC provider of https://" in world.run("irsa", "sidecar", cluster="new").err
    world.fake.remove(CONFIGURATION)
    assert "The cluster has no webhook and no policies" in world.run("irsa", "sidecar").err


# The record


def test_record_of_another_migration_is_rejected(world: World) -> None:
    write_record(Path("irsa-sidecar-migration-shop.json"), Record("shop: kube2iam to sidecar", ()))
    done = world.run("irsa", "sidecar")
    assert (done.status, "belongs to another migration, shop: kube2iam to sidecar" in done.err) == (2, True)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 2, "changes": [], "goal": "", "done": 0}', b"\xff"])
def test_damaged_record_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record").write_bytes(content)
    with pytest.raises(SidecarError, match="which is not a record of a migration"):
        read_record(tmp_path / "record")


def test_unwritable_record_stops_before_the_first_change(world: World) -> None:
    world.use("irsa")
    before = world.state()
    done = world.run("irsa", "sidecar", "--record", "no/such/directory.json")
    assert (done.status, "the file cannot be written" in done.err) == (2, True)
    assert world.state() == before


def test_undo_includes_a_change_that_the_record_does_not_count(world: World) -> None:
    """The command was killed between a change and its record."""
    world.use("irsa")
    before = world.state()
    world.run("irsa", "sidecar")
    path = Path("irsa-sidecar-migration-shop.json")
    record = read_record(path)
    assert record is not None
    write_record(path, Record(record.goal, record.changes, record.done - 1))
    assert world.run("irsa", "sidecar", "--undo").status == 0
    assert [_without_none(each) for each in world.state()] == [_without_none(each) for each in before]


def test_pointer_of_a_name_with_a_slash_is_one_member() -> None:
    pointer = "/spec/template/metadata/labels/irsa-sidecar.io~1inject"
    patch = {"spec": {"template": {"metadata": {"labels": {INJECT_LABEL: "true"}}}}}
    assert merge_patch({pointer: "true"}) == patch
    assert values_at(patch, {pointer: None}) == {pointer: "true"}
    assert values_at({"spec": {"template": None}}, {pointer: None}) == {pointer: None}
    change = Change(Kind.TEMPLATE, "x", {pointer: None}, {pointer: "true"}, "restart x", Phase.SWITCH)
    assert change.undone().undone().after == change.after
