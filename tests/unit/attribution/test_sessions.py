"""Test the join of log records and CloudTrail records to sessions."""

import json
from typing import Any

import pytest

from sidecar.attribution.cloudtrail import read_documents, records
from sidecar.attribution.log_lines import PodName, read_log
from sidecar.attribution.report import as_json, as_text
from sidecar.attribution.sessions import Session, find_sessions
from sidecar.attribution.target import Target, parse_target
from sidecar.errors import ConfigurationError
from tests.unit.attribution.samples import (
    ARN,
    CHAINED_KEY,
    CHAINED_ROLE,
    KEY,
    NODE_ADDRESS,
    OTHER_KEY,
    ROLE,
    SESSION,
    call,
    chain_step,
    exchange,
    refreshed,
    served,
    trail_file,
)

POD = PodName("cart-7d4b9c-x2x9z", "shop")


def found(target: str, *trail: dict[str, Any], logs: tuple[str, ...] = (), path: str = "") -> tuple[Session, ...]:
    return find_sessions(parse_target(target), read_log(logs, path).records, list(records(trail)))


# The target of the search


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (KEY, Target(access_key_id=KEY)),
        (ARN, Target(role_name="cart", session_name=SESSION)),
        ("arn:aws-cn:iam::111122223333:role/team/cart", Target(role_name="cart")),
        (SESSION, Target(session_name=SESSION)),
    ],
)
def test_target_is_a_key_an_arn_or_a_session(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "a", "two words", "arn:aws:s3:::bucket", "x" * 200])
def test_invalid_target_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WHO is"):
        parse_target(text)


# The Pod


def test_pod_comes_from_the_log_of_its_sidecar() -> None:
    (session,) = found(KEY, logs=(f"[pod/{POD.name}/irsa-sidecar] {refreshed()}",))
    assert (session.pod, session.pod_source) == (PodName(POD.name), "log")
    assert session.role_arn == ROLE


def test_other_pods_with_the_key_in_their_logs_are_named() -> None:
    """One of the lines is false, and a person has to decide which line."""
    logs = tuple(f"[pod/{name}/app] {refreshed()}" for name in ("cart-1", "cart-2", "cart-1"))
    sessions = found(KEY, logs=logs)
    assert (sessions[0].pod, sessions[0].other_pods) == (PodName("cart-1"), (PodName("cart-2"),))
    assert "WARNING          the logs of other Pods contain this key too, so a log may be false: cart-2" in as_text(
        sessions
    )
    assert json.loads(as_json(sessions))["sessions"][0]["other_pods"] == [{"name": "cart-2", "namespace": ""}]


def test_pod_with_and_without_its_namespace_is_one_pod() -> None:
    labels = {"log": refreshed(), "kubernetes": {"pod_name": POD.name, "namespace_name": POD.namespace}}
    (session,) = found(KEY, logs=(f"[pod/{POD.name}/irsa-sidecar] {refreshed()}", json.dumps(labels)))
    assert (session.pod, session.other_pods) == (POD, ())


def test_pod_comes_from_the_session_name_of_the_signed_namespace() -> None:
    (session,) = found(KEY, exchange())
    assert (session.pod, session.pod_source) == (POD, "session name")
    assert session.service_account == "shop/cart"


@pytest.mark.parametrize("name", ["other.cart-1", "cart-1", "shop-cart-1", "botocore-session-1"])
def test_session_name_of_another_namespace_names_no_pod(name: str) -> None:
    (session,) = found(KEY, exchange(session=name))
    assert session.pod is None
    assert session.service_account == "shop/cart"


def test_log_has_priority_over_the_session_name() -> None:
    (session,) = found(KEY, exchange(session="shop.forged"), logs=(f"[pod/{POD.name}/irsa-sidecar] {refreshed()}",))
    assert session.pod == PodName(POD.name)


# Sessions


@pytest.mark.parametrize("target", [KEY, ARN, SESSION, ROLE])
def test_session_is_found_by_each_of_its_names(target: str) -> None:
    sessions = found(
        target, exchange(), call(), call("PutObject"), exchange(OTHER_KEY, "other.pod", requestParameters={})
    )
    assert [session.access_key_id for session in sessions] == [KEY]
    assert [use.action for use in sessions[0].uses] == ["s3:GetObject", "s3:PutObject"]


def test_calls_without_an_exchange_name_role_and_session() -> None:
    (session,) = found(KEY, call())
    assert (session.role_arn, session.session_name, session.pod) == (ROLE, SESSION, None)


def test_chained_session_is_found_with_the_first_session() -> None:
    first, second = found(CHAINED_KEY, exchange(), chain_step(), call(key=CHAINED_KEY))
    assert (first.access_key_id, first.pod) == (KEY, POD)
    assert (second.access_key_id, second.role_arn, second.chain) == (CHAINED_KEY, CHAINED_ROLE, KEY)


def test_use_from_another_address_is_foreign() -> None:
    (session,) = found(
        KEY,
        exchange(),
        call(),
        call("ListBuckets", sourceIPAddress="198.51.100.9"),
        call("Decrypt", sourceIPAddress="s3.amazonaws.com"),
    )
    assert [use.action for use in session.foreign_uses] == ["s3:ListBuckets"]
    assert "WARNING" in as_text([session])
    assert NODE_ADDRESS in as_text([session])


def test_responses_to_a_client_are_counted() -> None:
    (session,) = found(KEY, logs=(refreshed(), served(uid=1000), served(count=5)))
    text = as_text([session])
    assert "served           6 times to user 1000" in text


def test_unknown_key_is_not_found() -> None:
    assert found(OTHER_KEY, exchange(), call(), logs=(refreshed(),)) == ()


# Forms of CloudTrail records


@pytest.mark.parametrize(
    "text",
    [
        trail_file(exchange()),
        json.dumps(exchange()),
        "\n".join([json.dumps(exchange()), json.dumps(call())]),
        json.dumps({"Events": [{"EventId": "1", "CloudTrailEvent": json.dumps(exchange())}]}),
    ],
)
def test_records_are_read_from_each_form(text: str) -> None:
    (first, *_) = records(read_documents(text, "file"))
    assert first.access_key_id == KEY


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"Records": 1}', "[" * 100_000])
def test_file_without_records_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--cloudtrail is file: it has no CloudTrail records"):
        read_documents(text, "file")


@pytest.mark.parametrize(
    "change",
    [
        {"userIdentity": None},
        {"responseElements": None},
        {"requestParameters": []},
        {"eventTime": 5},
        {"responseElements": {"credentials": {"accessKeyId": 5}}},
    ],
)
def test_record_with_unusual_parts_is_not_an_error(change: dict[str, Any]) -> None:
    assert len(found(KEY, exchange(**change), call())) == 1


# Output


def test_json_has_every_fact_of_a_session() -> None:
    sessions = found(KEY, exchange(), call(), call(errorCode="AccessDenied"), logs=(refreshed(), served(uid=1000)))
    (document,) = json.loads(as_json(sessions))["sessions"]
    assert document["pod"] == {"name": POD.name, "namespace": "shop"}
    assert document["actions"] == [{"action": "s3:GetObject", "calls": 2, "errors": 1}]
    assert document["obtained_at"] == "2026-11-28T12:00:00Z"
    assert document["expires_at"] == "2026-11-28T13:00:00Z"
    assert document["clients"][0]["uid"] == 1000


def test_text_escapes_control_characters() -> None:
    text = as_text(found(KEY, exchange(userAgent="\x1b[31m\u202eevil")))
    assert "\x1b" not in text
    assert "\u202e" not in text
