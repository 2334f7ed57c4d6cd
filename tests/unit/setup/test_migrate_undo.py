"""Test the order of `setup migrate --undo` and --finish, with moto and a fake API server."""

from typing import Any

import pytest

from sidecar.injection.names import INJECT_LABEL
from sidecar.setup.migration import (
    RESTARTED_AT,
    Kind,
    Phase,
    undo_of,
)
from tests.unit.setup.migration_world import (
    NODES,
    PAIRS,
    POD,
    World,
    current_record,
    without_empty,
)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_undo_restores_the_source_before_pods_restart(world: World, source: str, target: str) -> None:
    """A Pod that restarts reads the ServiceAccount and the association at once. Old Pods need the new source longer."""
    world.use(source)
    world.run(source, target)
    world.run(source, target, "--finish")
    changes = undo_of(current_record().changes)
    restarts = [index for index, change in enumerate(changes) if change.kind is Kind.TEMPLATE]
    removals = [index for index, change in enumerate(changes) if change.phase is Phase.FINISH]
    restored = [
        index
        for index, change in enumerate(changes)
        if change.kind is Kind.SERVICE_ACCOUNT or (change.kind is Kind.ASSOCIATION and change.after is not None)
    ]
    assert max(restored, default=-1) < min(restarts)
    assert max(restarts) < min(removals)
    assert {changes[index].kind for index in removals} <= {Kind.TRUST_POLICY, Kind.ASSOCIATION}


@pytest.mark.parametrize(
    ("source", "target", "spec"),
    [
        ("pod-identity", "sidecar", {"containers": [{"name": "irsa-sidecar"}]}),
        ("irsa", "pod-identity", {"containers": [], "volumes": [{"name": "eks-pod-identity-token"}]}),
    ],
)
def test_undo_keeps_the_new_source_while_a_pod_uses_it(world: World, source: str, target: str, spec: Any) -> None:
    world.use(source)
    before = world.state()
    world.run(source, target)
    pod = {"metadata": {"name": "cart-0"}, "spec": {"serviceAccountName": "cart", **spec}}
    world.fake.put(POD, pod)
    first = world.run(source, target, "--undo")
    assert first.out.endswith("next: when all Pods have restarted, run this again with --undo\n")
    assert (len(world.statements()), world.associations()) == (2, ["cart"])
    refused = world.run(source, target)
    assert (refused.status, "belongs to an undo that is not complete. Run this with --undo" in refused.err) == (2, True)
    world.fake.put(POD, {**pod, "spec": {"serviceAccountName": "cart", "containers": []}})
    last = world.run(source, target, "--undo")
    assert last.out.endswith("The former state is restored.\n")
    assert [without_empty(each) for each in world.state()] == [without_empty(each) for each in before]


def test_undo_works_after_a_foreign_change_stopped_the_run(world: World) -> None:
    world.use("irsa")
    world.fake.forbidden.add(("patch", "deployments"))
    world.run("irsa", "sidecar")
    world.fake.forbidden.clear()
    world.templates()[0]["metadata"]["labels"][INJECT_LABEL] = "false"
    assert world.run("irsa", "sidecar").status == 1
    assert world.run("irsa", "sidecar", "--undo").status == 0
    assert world.statements() == [NODES]
    assert world.templates()[0]["metadata"]["labels"][INJECT_LABEL] == "false"


def test_restart_by_another_person_does_not_stop_an_undo(world: World) -> None:
    world.use("irsa")
    world.run("irsa", "pod-identity")
    world.templates()[0]["metadata"]["annotations"][RESTARTED_AT] = "2033-01-01T00:00:00Z"
    assert world.run("irsa", "pod-identity", "--undo").status == 0
    assert RESTARTED_AT not in world.templates()[0]["metadata"]["annotations"]


def test_ended_pod_does_not_use_the_old_source(world: World) -> None:
    """A CronJob keeps the Pods of its last runs."""
    world.use("pod-identity")
    world.run("pod-identity", "sidecar")
    spec = {"serviceAccountName": "cart", "containers": [{"name": "report"}]}
    world.fake.put(POD, {"metadata": {"name": "cart-0"}, "spec": spec, "status": {"phase": "Succeeded"}})
    assert world.run("pod-identity", "sidecar", "--finish").status == 0
    assert world.associations() == []
