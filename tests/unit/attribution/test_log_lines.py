"""Test the reading of log lines, as the daemon writes them and as collectors store them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.attribution.cloudtrail import read_documents, records
from sidecar.attribution.log_lines import PodName, read_log
from sidecar.attribution.report import as_json, as_text
from sidecar.attribution.sessions import find_sessions
from sidecar.attribution.target import Target
from tests.unit.attribution.samples import KEY, ROLE, call, chain_step, exchange, refreshed, served

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


FORGED = json.dumps({"event": "credentials_refreshed", "access_key_id": KEY, "pod": "victim", "namespace": "other"})
"""A line with which an application blames another Pod for its own calls."""


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"[pod/{POD.name}/app] {FORGED}", ""),
        (f"2026-11-28T12:00:00Z stdout F {FORGED}", PATH),
        (json.dumps({"log": FORGED, "kubernetes": {"pod_name": POD.name, "namespace_name": POD.namespace}}), ""),
        (json.dumps({"log": json.loads(FORGED), "kubernetes": {"pod_name": POD.name}}), ""),
    ],
    ids=["prefix", "path", "collector", "parsed object"],
)
def test_line_cannot_name_another_pod(line: str, path: str) -> None:
    (record,) = read_log([line], path).records
    assert record.pod is not None
    assert record.pod.name == POD.name


# Records of other programs

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63])
    | st.floats()
    | st.text()
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", KEY, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
LOG_LINES = (json.loads(LINE), json.loads(served(uid=1000, pid=17)), {"log": LINE, "kubernetes": {"pod_name": "a"}})
RECORDS = (exchange(), call(), chain_step())


def with_changed_values(data: st.DataObject, document: Any) -> Any:
    """Return the document with some values replaced by any JSON value."""
    if data.draw(st.integers(0, 3)) == 0:
        return data.draw(VALUES)
    if isinstance(document, dict):
        return {name: with_changed_values(data, value) for name, value in document.items()}
    return document


@given(st.data(), st.sampled_from(LOG_LINES), st.sampled_from(RECORDS))
def test_records_with_any_values_cause_no_exception(
    data: st.DataObject, line: dict[str, Any], record: dict[str, Any]
) -> None:
    """An application can write any line, and the search for a stolen key must not end with a traceback."""
    lines = [json.dumps(with_changed_values(data, line)), LINE]
    trail = json.dumps({"Records": [with_changed_values(data, record), call()]})
    sessions = find_sessions(Target(), read_log(lines).records, list(records(read_documents(trail, "trail"))))
    assert KEY in as_text(sessions)
    assert KEY in as_json(sessions)
