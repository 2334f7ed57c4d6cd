"""Test that a hostile document of a Pod is rejected or limited."""

import json
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving.status import DaemonStatus, as_document
from sidecar.status.read import MAX_BYTES, MAX_ROLES, MAX_TEXT, UnreadableError, read_status
from tests.unit.serving.test_status import DAEMON

DOCUMENT = as_document(DAEMON)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def changed(field: str, value: Any) -> Any:
    """Return the document with another value of `field`, such as `roles.0.error.code`."""
    document: Any = deepcopy(DOCUMENT)
    *path, last = field.split(".")
    at = document
    for key in path:
        at = at[int(key) if key.isdigit() else key]
    at[int(last) if last.isdigit() else last] = value
    return document


def test_document_of_a_daemon_is_read() -> None:
    found = read_status(encoded(DOCUMENT))
    assert as_document(found) == DOCUMENT
    assert found.roles[1].error == DAEMON.roles[1].error
    assert not found.is_available


def test_unknown_fields_of_a_newer_daemon_are_ignored() -> None:
    document = {**DOCUMENT, "new": [1], "roles": [{**role, "new": {}} for role in DOCUMENT["roles"]]}
    assert as_document(read_status(encoded(document))) == DOCUMENT


HOSTILE: dict[str, list[Any]] = {
    "schema_version": [None, 2, "1", [1], True, 1.0],
    "version": [None, 5, []],
    "now": [None, 5, "", "yesterday", "2026-11-29T10:00:00", "9" * 5000],
    "uptime_seconds": [None, "5", True, 1e300, -1e300, [], 10**400],
    "roles": [None, {}, "x", [], [None], [5], ["x"], [[]]],
    "roles.0.name": [None, 5, {}],
    "roles.0.state": [None, "", "well", 5, [], {}],
    "roles.0.expires_in_seconds": ["5", False, 1e11, []],
    "roles.0.next_refresh_in_seconds": [None, "now"],
    "roles.0.last_call": [5, "x", [], {}],
    "roles.0.last_call.http_status": ["200", 1e300, True],
    "roles.1.error": ["x", 5, {}],
    "roles.1.error.message": [None, 5],
    "roles.0.served": [None, "5", 1e300, -1],
    "roles.0.clients": [None, {}, [None], ["x"], [{}]],
    "roles.0.clients.0.uid": ["0", True, [], -1],
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in HOSTILE.items() for value in values])
def test_wrong_value_is_rejected(field: str, value: Any) -> None:
    with pytest.raises(UnreadableError):
        read_status(encoded(changed(field, value)))


@pytest.mark.parametrize("field", ["version", "now", "roles", "roles.0.served", "roles.0.last_call.code"])
def test_missing_field_is_rejected(field: str) -> None:
    document = changed(field, None)
    *path, last = field.split(".")
    at = document
    for key in path:
        at = at[int(key) if key.isdigit() else key]
    del at[last]
    with pytest.raises(UnreadableError):
        read_status(encoded(document))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"ok\n", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "schema version None"),
        (b'{"schema_version": 1}', "form"),
        (encoded(DOCUMENT).replace(b"600.0", b"NaN"), "not JSON"),
        (encoded(DOCUMENT).replace(b"600.0", b"-Infinity"), "not JSON"),
        (encoded(DOCUMENT).replace(b"600.0", b"9" * 5000), "not JSON"),
        (b" " * (MAX_BYTES + 1), "over 524288 bytes"),
    ],
)
def test_other_content_is_rejected_with_its_reason(body: bytes, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        read_status(body)


def test_long_texts_and_lists_are_cut() -> None:
    many = changed("roles", [DOCUMENT["roles"][0]] * 400)
    many["version"] = "x" * 100_000
    found = read_status(encoded(many))
    assert len(found.roles) == MAX_ROLES
    assert len(found.version) == MAX_TEXT


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted({*HOSTILE, "roles.0.last_call.code", "roles.1.last_call"})), VALUES)
def test_any_value_is_read_or_rejected(field: str, value: Any) -> None:
    with suppress(UnreadableError):
        assert isinstance(read_status(encoded(changed(field, value))), DaemonStatus)


def test_expired_credentials_are_not_ready() -> None:
    found = read_status(encoded(changed("roles.0.expires_in_seconds", -0.1))).roles[0]
    assert (found.state, found.is_available) == ("unavailable", False)


def test_access_key_of_an_older_daemon_is_hidden() -> None:
    found = read_status(encoded(changed("roles.1.error.message", "no key ASIAABCDEFGHIJKLMNOP here"))).roles[1]
    assert found.error is not None
    assert found.error.message == "no key *** here"
