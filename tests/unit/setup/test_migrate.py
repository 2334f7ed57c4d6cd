"""Test `setup migrate` with moto's IAM and EKS and a fake API server, for each pair of sources."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.errors import KubernetesError
from sidecar.injection.names import EKS_AUDIENCE, EKS_ROLE_ARN, INJECT_LABEL
from sidecar.kubernetes.client import Kubernetes
from sidecar.setup.migration import KUBE2IAM_ROLE, RESTARTED_AT
from sidecar.setup.migration_facts import read_association
from sidecar.setup.migration_record import read_record, write_record
from sidecar.setup.plan_migration import POD_IDENTITY_STATEMENT
from tests.support.documents import commands
from tests.support.fakes.moto_server import ACCOUNT_ID
from tests.unit.setup.migration_world import (
    ARN,
    CONFIGURATION,
    CRON_JOB,
    DEPLOYMENT,
    NODES,
    PAIRS,
    RECORD,
    World,
    current_record,
    without_empty,
)


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
    assert [without_empty(each) for each in world.state()] == [without_empty(each) for each in before]
    assert not Path("irsa-sidecar-migration-shop.json").exists()


def test_documented_commands_run(world: World) -> None:
    world.use("pod-identity")
    dry_run, finish = commands("docs/migrate.md", "With one command")
    assert "finish: delete the association of shop/cart" in world.account.setup(*dry_run.split()[2:]).out
    assert world.account.setup(*dry_run.removesuffix(" --dry-run").split()[2:]).status == 0
    assert f"done: delete the association of shop/cart with {ARN}\n" in world.account.setup(*finish.split()[2:]).out


def test_interrupted_migration_continues(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server fails when the second workload is changed."""
    world.use("pod-identity")

    def patch(self: Kubernetes, path: str, change: Any, *, dry_run: bool = False) -> Any:
        if path == CRON_JOB and not dry_run:
            raise KubernetesError("The API server failed", status=500)
        return real(self, path, change, dry_run=dry_run)

    real = Kubernetes.patch
    with monkeypatch.context() as patched:
        patched.setattr(Kubernetes, "patch", patch)
        failed = world.run("pod-identity", "sidecar")
    assert (failed.status, "The API server failed" in failed.err) == (1, True)
    record = read_record(Path("irsa-sidecar-migration-shop.json"))
    assert record is not None
    assert (record.done, len(record.changes)) == (3, 5)
    done = world.run("pod-identity", "sidecar")
    assert done.out == (
        "irsa-sidecar-migration-shop.json: 3 of 5 changes are made\n"
        "switch: restart CronJob shop/report\n"
        f"finish: delete the association of shop/cart with {ARN}\n"
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


def test_deleted_workload_needs_no_restart(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("patch", "deployments"))
    world.run("irsa", "sidecar")
    world.fake.forbidden.clear()
    world.fake.remove(DEPLOYMENT)
    done = world.run("irsa", "sidecar")
    assert (done.status, "done: restart CronJob shop/report" in done.out) == (0, True)
    assert "deployments/cart does not exist any more, so this is not done: restart Deployment shop/cart" in done.err


def test_deleted_role_stops_the_migration_but_no_undo(world: World) -> None:
    world.use("pod-identity")
    world.fake.forbidden.add(("patch", "serviceaccounts"))
    world.run("pod-identity", "sidecar")
    world.fake.forbidden.clear()
    world.iam.delete_role(RoleName="cart")
    write_record(RECORD, replace(current_record(), done=0))
    stopped = world.run("pod-identity", "sidecar")
    assert (stopped.status, "role cart does not exist any more. Create it again" in stopped.err) == (1, True)
    write_record(RECORD, replace(current_record(), done=1))
    undone = world.run("pod-identity", "sidecar", "--undo")
    assert (undone.status, "role cart does not exist any more, so this is not done" in undone.err) == (0, True)


# Workloads and settings that cannot be moved or kept


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


def test_service_account_without_a_role_is_left_out(world: World) -> None:
    world.use("irsa")
    world.put_account("plain")
    assert "plain" not in world.run("irsa", "sidecar", "--dry-run").out


def test_existing_association_is_an_obstacle(world: World) -> None:
    world.use("irsa")
    world.use("pod-identity")
    assert "it already has an association" in world.run("irsa", "pod-identity", "--dry-run").out


def test_service_account_without_workloads_is_not_moved(world: World) -> None:
    world.create_role("job")
    world.put_account("job", **{EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/job"})
    done = world.run("irsa", "sidecar", "--service-account", "job")
    assert "shop/job is not moved: no Deployment, StatefulSet, DaemonSet or CronJob uses it" in done.out


def test_lost_settings_of_sources_are_named(world: World) -> None:
    world.use("pod-identity")
    assert "loses the session tags" in world.run("pod-identity", "sidecar", "--dry-run").out
    world.use("kube2iam")
    world.templates()[0]["metadata"]["annotations"]["iam.amazonaws.com/external-id"] = "x"
    shown = world.run("kube2iam", "sidecar", "--dry-run").out
    assert "cannot be kept: Deployment shop/cart loses its annotation iam.amazonaws.com/external-id" in shown


def test_association_that_needs_a_roles_file_is_not_moved(world: World) -> None:
    """The Pods would get the credentials of another role."""
    world.eks.create_pod_identity_association(
        clusterName="shop", namespace="shop", serviceAccount="cart", roleArn=ARN, targetRoleArn=f"{ARN}-data"
    )
    done = world.run("pod-identity", "sidecar")
    assert "shop/cart is not moved: its association has targetRoleArn, which needs a roles file" in done.out
    assert "nothing to change" in done.out


def test_workload_without_a_role_does_not_get_one(world: World) -> None:
    world.use("kube2iam")
    del world.templates()[1]["metadata"]["annotations"]
    done = world.run("kube2iam", "sidecar")
    assert "shop/cart is not moved: CronJob shop/report would get the role too" in done.out
    assert world.annotations() == {}


def test_name_and_arn_of_one_role_are_equal(world: World) -> None:
    world.use("kube2iam")
    world.templates()[1]["metadata"]["annotations"][KUBE2IAM_ROLE] = ARN
    assert f"stays: shop/cart keeps role {ARN}" in world.run("kube2iam", "sidecar", "--dry-run").out


@pytest.mark.parametrize(
    "arn", ["arn:aws:iam::123456789012:role/${ROLE}", "arn:aws:iam::1:role/", "\x1b[31m", "a" * 90]
)
def test_impossible_role_does_not_end_the_plan(world: World, arn: str) -> None:
    world.use("irsa")
    world.put_account("other", **{EKS_ROLE_ARN: arn})
    done = world.run("irsa", "sidecar", "--dry-run")
    assert (done.status, "shop/other is not moved" in done.out, "\x1b" in done.out) == (0, True, False)
    assert "switch: restart Deployment shop/cart" in done.out


def test_full_trust_policy_stops_only_its_own_role(world: World) -> None:
    world.use("irsa")
    many = [{**NODES, "Sid": f"Nodes{index}"} for index in range(14)]
    world.iam.create_role(
        RoleName="full", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": many})
    )
    world.put_account("full", **{EKS_ROLE_ARN: f"arn:aws:iam::{ACCOUNT_ID}:role/full"})
    world.put_workload(
        "/apis/apps/v1/namespaces/shop/deployments/full", "Deployment", {"template": world.template("full")}
    )
    done = world.run("irsa", "sidecar")
    assert (done.status, "shop/full is not moved: " in done.out) == (0, True)
    assert "done: restart Deployment shop/cart" in done.out


def test_existing_pod_identity_statement_suffices_in_any_order(world: World) -> None:
    world.use("irsa")
    statement = {**POD_IDENTITY_STATEMENT, "Sid": "Mine", "Action": ["sts:TagSession", "sts:AssumeRole"]}
    document = {"Version": "2012-10-17", "Statement": statement}
    world.iam.update_assume_role_policy(RoleName="cart", PolicyDocument=json.dumps(document))
    assert "trust EKS Pod Identity" not in world.run("irsa", "pod-identity", "--dry-run").out


def test_tags_of_aws_are_not_part_of_an_association() -> None:
    found = {"roleArn": ARN, "tags": {"aws:cloudformation:stack-name": "x"}, "disableSessionTags": False}
    aws: Any = SimpleNamespace(
        call=lambda _, operation, **__: (
            {"associations": [{"associationId": "a"}]}
            if operation == "ListPodIdentityAssociations"
            else {"association": found}
        )
    )
    assert read_association(aws, "shop", "shop/cart") == ({"roleArn": ARN}, "a")
    found["tags"] = {"aws:x": "y", "team": "shop"}
    assert read_association(aws, "shop", "shop/cart") == ({"roleArn": ARN, "tags": {"team": "shop"}}, "a")


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
        (("--from", "irsa", "--to", "sidecar", "--cluster", "shop", "--namespace", "none"), "does not exist or has no"),
        (("--from", "irsa", "--to", "sidecar", "--namespace", "../x"), "--namespace is '../x'"),
    ],
)
def test_wrong_usage_is_explained(world: World, arguments: tuple[str, ...], words: str) -> None:
    done = world.account.setup("migrate", "--namespace", "shop", *arguments)
    assert done.status == 2
    assert words in done.err


def test_sidecar_needs_a_webhook_and_a_provider(world: World) -> None:
    world.use("irsa")
    world.eks.create_cluster(name="new", roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/eks", resourcesVpcConfig={})
    new = world.eks.describe_cluster(name="new")["cluster"]["identity"]["oidc"]["issuer"]
    with world.issuer_of_api_server(new):
        assert "The account has no OIDC provider of https://" in world.run("irsa", "sidecar", cluster="new").err
    world.fake.remove(CONFIGURATION)
    assert "The cluster has no webhook and no policies" in world.run("irsa", "sidecar").err
