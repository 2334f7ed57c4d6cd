"""
Compare our requests and our parser of responses with botocore, which is the reference for the protocol of STS.

The peer is botocore's client without its socket. The client records the request that it would send, and receives a
response from the test.
"""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import pytest
from botocore.utils import ArnParser
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.role import ChainStep
from sidecar.sts.errors import Operation
from sidecar.sts.wire import API_VERSION, HEADERS, assume_role, assume_role_with_web_identity, read_reply
from tests.against.botocore.peer import (
    CHAIN,
    REQUEST,
    ROLE_ARN,
    TOKEN,
    WEB_IDENTITY,
    Botocore,
    Rendering,
    broken_replies,
    render,
    renderings,
    steady,
    values,
)

# Tests of requests


any_text = st.text(max_size=60)
sessions = {
    "role_arn": any_text,
    "session_name": any_text,
    "duration_seconds": st.integers(),
    "policy": st.none() | st.text(min_size=1, max_size=60),
    "policy_arns": st.lists(any_text, max_size=12),
}
"""The parameters that AssumeRoleWithWebIdentity and AssumeRole have in common, each with generated values."""

chained = {
    "tags": st.lists(st.tuples(any_text, any_text), max_size=12),
    "transitive_tags": st.lists(any_text, max_size=12),
    "external_id": st.none() | any_text,
    "source_identity": st.none() | any_text,
}


def in_botocores_words(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same request in botocore's form, without unset parameters."""
    words = {
        "RoleArn": parameters["role_arn"],
        "RoleSessionName": parameters["session_name"],
        "WebIdentityToken": parameters.get("token"),
        "PolicyArns": [{"arn": arn} for arn in parameters["policy_arns"]] or None,
        "Policy": parameters["policy"],
        "DurationSeconds": parameters["duration_seconds"],
        "Tags": [{"Key": key, "Value": value} for key, value in parameters.get("tags", ())] or None,
        "TransitiveTagKeys": parameters.get("transitive_tags") or None,
        "ExternalId": parameters.get("external_id"),
        "SourceIdentity": parameters.get("source_identity"),
    }
    return {name: value for name, value in words.items() if value is not None}


@steady
@given(st.fixed_dictionaries({**sessions, "token": any_text}))
def test_web_identity_form_equals_botocores_form(peer: Botocore, parameters: dict[str, Any]) -> None:
    assert peer.sends(WEB_IDENTITY, in_botocores_words(parameters)) == assume_role_with_web_identity(**parameters)


@steady
@given(st.fixed_dictionaries({**sessions, **chained}))
def test_assume_role_form_equals_botocores_form(peer: Botocore, parameters: dict[str, Any]) -> None:
    assert peer.sends(CHAIN, in_botocores_words(parameters)) == assume_role(ChainStep(**parameters))


def test_headers_equal_botocores_headers(peer: Botocore) -> None:
    peer.sends(WEB_IDENTITY, REQUEST | TOKEN)
    assert peer.sent is not None
    assert (peer.sent.method, peer.sent.url) == ("POST", "https://sts.eu-west-1.amazonaws.com/")
    assert HEADERS["Content-Type"].encode() == peer.sent.headers["Content-Type"]
    assert "Authorization" not in peer.sent.headers
    assert "Authorization" not in HEADERS
    # botocore leaves this header to http.client, which sends it unless botocore sets another value.
    assert HEADERS["Accept-Encoding"] == "identity"
    assert peer.sent.headers.get("Accept-Encoding", "identity") == "identity"


@pytest.mark.parametrize("operation", Operation)
def test_form_parameters_have_the_order_of_the_model(peer: Botocore, operation: Operation) -> None:
    session: dict[str, Any] = {
        "role_arn": "r",
        "session_name": "s",
        "duration_seconds": 900,
        "policy": "{}",
        "policy_arns": ["a"],
    }
    forms = {
        WEB_IDENTITY: assume_role_with_web_identity(**session, token="t"),
        CHAIN: assume_role(
            ChainStep(**session, tags=(("a", "b"),), transitive_tags=("a",), external_id="xx", source_identity="yy")
        ),
    }
    sent = [field.split(b"=")[0].split(b".")[0].decode() for field in forms[operation].split(b"&")][2:]
    shape = peer.model.operation_model(operation).input_shape
    assert shape is not None
    assert list(dict.fromkeys(sent)) == [name for name in shape.members if name in sent]
    assert peer.model.api_version == API_VERSION


# Tests of responses


def as_botocore_has_it(reply: Mapping[str, Any]) -> Credentials:
    """Return botocore's result as our Credentials. The account is a part of the ARN, as in botocore's own code."""
    keys = reply["Credentials"]
    return Credentials(
        access_key_id=keys["AccessKeyId"],
        secret_access_key=keys["SecretAccessKey"],
        session_token=keys["SessionToken"],
        expires_at=keys["Expiration"].astimezone(UTC).replace(microsecond=0),
        role_arn=ROLE_ARN,
        account_id=ArnParser().parse_arn(reply["AssumedRoleUser"]["Arn"])["account"],
        token_bytes=reply.get("SessionTokenSize"),
        token_percent=reply.get("SessionTokenUtilization"),
    )


@steady
@given(
    operation=st.sampled_from(Operation),
    values=values,
    rendering=renderings,
    more=st.lists(st.sampled_from(["Provider", "Audience", "SomethingNew", "Tags", "Tags"]), max_size=4),
    sizes=st.dictionaries(
        st.sampled_from(["SessionTokenSize", "SessionTokenUtilization"]), st.integers(0, 10**9 - 1).map(str)
    ),
    has_optional=st.booleans(),
    is_reversed=st.booleans(),
)
def test_each_xml_variant_of_a_response_has_botocores_result(
    peer: Botocore,
    operation: Operation,
    values: dict[str, str],
    rendering: Rendering,
    more: list[str],
    *,
    sizes: dict[str, str],
    has_optional: bool,
    is_reversed: bool,
) -> None:
    body = render(
        values,
        rendering,
        more=more,
        optional={"AssumedRoleId": "A:b"} if has_optional else {},
        sizes=sizes,
        is_reversed=is_reversed,
        operation=operation,
    )
    got = read_reply(200, body, role_arn=ROLE_ARN, operation=operation)
    assert got == as_botocore_has_it(peer.call(operation, 200, body))
    assert got.secret_access_key == values["SecretAccessKey"]


def test_response_to_the_other_operation_is_rejected() -> None:
    for operation, other in ((WEB_IDENTITY, CHAIN), (CHAIN, WEB_IDENTITY)):
        with pytest.raises(ExchangeError, match=f"'{other}Response' instead of {operation}Response"):
            read_reply(200, render(operation=other), role_arn=ROLE_ARN, operation=operation)


def differs_from_botocore(peer: Botocore, body: bytes) -> str | None:
    """Return how our result differs from botocore's, or None. We may reject a response that botocore accepts."""
    try:
        got = read_reply(200, body, role_arn=ROLE_ARN)
    except ExchangeError as error:
        return None if (error.code, error.next_step) == ("MalformedReply", NextStep.RETRY) else f"raised {error!r}"
    expected = as_botocore_has_it(peer.call(WEB_IDENTITY, 200, body))
    return None if got == expected else f"{got} is not {expected}"


@steady
@given(broken_replies())
def test_broken_response_is_rejected_or_has_botocores_result(peer: Botocore, body: bytes) -> None:
    assert differs_from_botocore(peer, body) is None


@steady
@given(st.binary(max_size=300))
def test_any_bytes_are_rejected(body: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_reply(200, body, role_arn=ROLE_ARN)
    assert caught.value.code == "MalformedReply"


def pieces(body: bytes) -> list[bytes]:
    """Return a document's tags and the text between them, in order."""
    return [piece for piece in body.replace(b"<", b"\0<").replace(b">", b">\0").split(b"\0") if piece]


def test_missing_or_repeated_tags_never_give_wrong_credentials(peer: Botocore) -> None:
    parts = pieces(render())
    for i, part in enumerate(parts):
        for body in (parts[:i] + parts[i + 1 :], [*parts[:i], part, *parts[i:]]):
            assert differs_from_botocore(peer, b"".join(body)) is None, body


def test_swapped_tags_never_give_wrong_credentials(peer: Botocore) -> None:
    parts = pieces(render())
    for i in range(len(parts)):
        for j in range(i):
            swapped = [*parts]
            swapped[i], swapped[j] = parts[j], parts[i]
            assert differs_from_botocore(peer, b"".join(swapped)) is None, swapped


def test_truncated_response_is_rejected() -> None:
    body = render()
    for length in range(len(body)):
        with pytest.raises(ExchangeError):
            read_reply(200, body[:length], role_arn=ROLE_ARN)
