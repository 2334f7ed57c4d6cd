"""Test the record of `setup migrate`: damage, edits by hand, and other clusters."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import SidecarError
from sidecar.injection.names import INJECT_LABEL
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.migration import (
    Change,
    Kind,
    Phase,
    merge_patch,
    values_at,
)
from sidecar.setup.migration_record import Record, read_record, write_record
from tests.support.fakes.api_server import api_server, kubeconfig
from tests.unit.setup.migration_world import (
    CRON_JOB,
    RECORD,
    World,
    current_record,
    without_empty,
)


def test_record_of_another_migration_is_rejected(world: World) -> None:
    write_record(Path("irsa-sidecar-migration-shop.json"), Record("shop: kube2iam to sidecar", ()))
    done = world.run("irsa", "sidecar")
    assert (done.status, "belongs to another migration, shop: kube2iam to sidecar" in done.err) == (2, True)


def test_record_of_other_service_accounts_is_rejected(world: World) -> None:
    """Otherwise the second run would make no change, and would report success."""
    world.use("irsa")
    assert world.run("irsa", "sidecar", "--service-account", "cart").status == 0
    done = world.run("irsa", "sidecar")
    assert (done.status, "shop: irsa to sidecar for cart, in http://" in done.err) == (2, True)


def test_record_of_another_cluster_is_rejected(world: World, tmp_path: Path) -> None:
    world.use("irsa")
    world.run("irsa", "sidecar")
    with api_server() as other:
        other.broken[DISCOVERY_PATH] = world.fake.broken[DISCOVERY_PATH]
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(other.url)))
        done = world.run("irsa", "sidecar", "--undo")
    assert (done.status, "belongs to another migration" in done.err) == (2, True)
    assert len(world.statements()) == 2


def test_account_is_checked_when_a_migration_continues(world: World) -> None:
    world.use("irsa")
    world.run("irsa", "sidecar")
    done = world.run("irsa", "sidecar", "--undo", "--account-id", "999999999999")
    assert (done.status, "the credentials belong to" in done.err) == (2, True)


_CHANGE = {"kind": "template", "target": "/x", "title": "x", "phase": "switch", "before": {}, "after": {}}


@pytest.mark.parametrize(
    "changed",
    [
        {"done": -1},
        {"done": 2},
        {"done": True},
        {"moved": "cart"},
        {"moved": [1]},
        {"changes": [{**_CHANGE, "before": None}]},
        {"changes": [{**_CHANGE, "after": {"/metadata/labels/a": "b"}}]},
        {"changes": [{**_CHANGE, "target": 5}]},
        {"changes": [{**_CHANGE, "more": 5}]},
        {"changes": [{**_CHANGE, "kind": "association", "before": 1}]},
    ],
)
def test_record_with_wrong_values_is_rejected(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "record"
    valid = {"version": 1, "goal": "x", "changes": [_CHANGE], "moved": ["cart"], "done": 1, "is_undo": False}
    path.write_text(json.dumps(valid))
    assert read_record(path) is not None
    path.write_text(json.dumps(valid | changed))
    with pytest.raises(SidecarError, match="which is not a record of a migration"):
        read_record(path)


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


def test_change_that_the_record_does_not_count_is_not_repeated(world: World) -> None:
    """The command was killed between a change and its record, and continues."""
    world.use("irsa")
    world.run("irsa", "sidecar")
    after = world.state()
    write_record(RECORD, replace(current_record(), done=0))
    assert world.run("irsa", "sidecar").status == 0
    assert (world.state(), current_record().left) == (after, ())
    real = [target for method, target in world.fake.requests if method == "PATCH" and "dryRun" not in target]
    assert len(real) == 2  # the Deployment and the CronJob, in the first run


def test_undo_ignores_an_uncounted_change_without_its_target(world: World) -> None:
    """The command was killed at the last workload, which somebody deletes before the undo."""
    world.use("irsa")
    world.run("irsa", "sidecar")
    write_record(RECORD, replace(current_record(), done=current_record().done - 1))
    world.fake.remove(CRON_JOB)
    undone = world.run("irsa", "sidecar", "--undo")
    assert (undone.status, "cronjobs" in undone.out + undone.err) == (0, False)


def test_undo_includes_a_change_that_the_record_does_not_count(world: World) -> None:
    """The command was killed between a change and its record."""
    world.use("irsa")
    before = world.state()
    world.run("irsa", "sidecar")
    write_record(RECORD, replace(current_record(), done=current_record().done - 1))
    assert world.run("irsa", "sidecar", "--undo").status == 0
    assert [without_empty(each) for each in world.state()] == [without_empty(each) for each in before]


def test_pointer_of_a_name_with_a_slash_is_one_member() -> None:
    pointer = "/spec/template/metadata/labels/irsa-sidecar.io~1inject"
    patch = {"spec": {"template": {"metadata": {"labels": {INJECT_LABEL: "true"}}}}}
    assert merge_patch({pointer: "true"}) == patch
    assert values_at(patch, {pointer: None}) == {pointer: "true"}
    assert values_at({"spec": {"template": None}}, {pointer: None}) == {pointer: None}
    change = Change(Kind.TEMPLATE, "x", {pointer: None}, {pointer: "true"}, "restart x", Phase.SWITCH)
    assert change.undone().undone().after == change.after
