"""Test the reading of log lines, as the daemon writes them and as collectors store them."""

import json

import pytest

from sidecar.attribution.log_lines import PodName, read_log
from tests.unit.attribution.samples import KEY, ROLE, refreshed, served

POD = PodName("cart-7d4b9c-x2x9z", "shop")
LINE = refreshed()
PATH = "/var/log/pods/shop_cart-7d4b9c-x2x9z_0123abcd-0000-4000-8000-0123456789ab/irsa-sidecar/0.log"

STORED = {
    "as written": (LINE, "", None),
    "kubectl logs --prefix": (f"[pod/{POD.name}/irsa-sidecar] {LINE}", "", PodName(POD.name)),
    "kubelet's file": (f"2026-11-28T12:00:00.000000000Z stderr F {LINE}", PATH, POD),
    "Fluent Bit": (
        json.dumps({"log": LINE, "kubernetes": {"pod_name": POD.name, "namespace_name": POD.namespace}}),
        "",
        POD,
    ),
    "Fluent Bit with CRI line": (
        json.dumps({"log": f"2026-11-28T12:00:00Z stderr F {LINE}", "kubernetes": {"pod_name": POD.name}}),
        "",
        PodName(POD.name),
    ),
    "Fluent Bit with parsed line": (
        json.dumps(json.loads(LINE) | {"kubernetes": {"pod_name": POD.name, "namespace_name": POD.namespace}}),
        "",
        POD,
    ),
    "Vector": (
        json.dumps({"message": LINE, "kubernetes": {"pod_name": POD.name, "pod_namespace": POD.namespace}}),
        "",
        POD,
    ),
    "Loki": (json.dumps({"line": LINE, "labels": {"pod": POD.name, "namespace": POD.namespace}}), "", POD),
    "parsed object": (
        json.dumps({"log": json.loads(LINE), "kubernetes": {"pod_name": POD.name}}),
        "",
        PodName(POD.name),
    ),
}


@pytest.mark.parametrize(("line", "path", "pod"), STORED.values(), ids=STORED)
def test_line_is_read_as_each_collector_stores_it(line: str, path: str, pod: PodName | None) -> None:
    file = read_log([line], path)
    (record,) = file.records
    assert (record.access_key_id, record.role_arn, record.pod) == (KEY, ROLE, pod)
    assert record.at > 0
    assert record.expires_at == 1795870800.0
    assert file.skipped == 0


def test_line_of_a_served_client_has_its_user_and_process() -> None:
    (record,) = read_log([served(uid=1000, pid=17)]).records
    assert (record.event, record.uid, record.pid, record.responses) == ("credentials_served", 1000, 17, 1)


@pytest.mark.parametrize(
    "line", ["listening on port 80", "{", "[]", "null", '{"a": 1}', "[" * 100_000, '{"log": 5}', "\x00", "x" * 10**6]
)
def test_other_lines_are_counted_and_skipped(line: str) -> None:
    file = read_log([line, "", LINE])
    assert len(file.records) == 1
    assert file.skipped == 1


def test_events_without_credentials_are_not_records() -> None:
    file = read_log(['{"event": "started", "time": "x"}', '{"event": "credentials_served", "access_key_id": 7}'])
    assert file == ((), 0)
