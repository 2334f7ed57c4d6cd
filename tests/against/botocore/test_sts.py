"""
Compare our requests and the parsing of responses with botocore, the authority on STS's protocol.

The peer is botocore's whole client, without its socket: it returns the request that it would send, and receives the
response.
"""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore import UNSIGNED, xform_name
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from botocore.utils import ArnParser
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.role import ChainStep
from sidecar.sts.errors import NEXT_STEPS, Operation
from sidecar.sts.wire import API_VERSION, HEADERS, assume_role, assume_role_with_web_identity, read_reply

steady = settings(deadline=None, derandomize=True)
"""Settings for the same inputs on every run, without a deadline."""

ROLE_ARN = "arn:aws:iam::111122223333:role/app"
WEB_IDENTITY, CHAIN = Operation.ASSUME_ROLE_WITH_WEB_IDENTITY, Operation.ASSUME_ROLE
REQUEST = {"RoleArn": ROLE_ARN, "RoleSessionName": "shop.app", "DurationSeconds": 3600}
TOKEN = {"WebIdentityToken": "token"}


class Raw:
    """The body of a response, in the form that botocore accepts from urllib3."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class Botocore:
    """A client of botocore. `sent` is the last request."""

    def __init__(self) -> None:
        config = Config(
            signature_version=UNSIGNED,
            parameter_validation=False,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        session = botocore.session.Session()
        # They are never sent, and prevent a search for other credentials.
        session.set_credentials("access-key-id", "secret-access-key")
        self._client = session.create_client("sts", region_name="eu-west-1", config=config)
        self._client.meta.events.register("before-send.sts", self._answer)
        self._reply = (200, b"")
        self.sent: AWSPreparedRequest | None = None

    @property
    def model(self) -> ServiceModel:
        return self._client.meta.service_model

    def call(
        self, operation: Operation, status: int, body: bytes, request: Mapping[str, Any] = REQUEST
    ) -> dict[str, Any]:
        """Send `request` and parse the response. Raises ClientError, or botocore's exception for an unreadable one."""
        self._reply = (status, body)
        reply: dict[str, Any] = getattr(self._client, xform_name(operation))(**request)
        return reply

    def sends(self, operation: Operation, request: Mapping[str, Any]) -> bytes:
        """Return the body of that request."""
        self.call(operation, 200, render(operation=operation), request)
        assert self.sent is not None
        return self.sent.body if isinstance(self.sent.body, bytes) else str(self.sent.body).encode()

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> Any:
        self.sent = request
        status, body = self._reply
        return AWSResponse(request.url, status, HTTPHeaders(), Raw(body))


@pytest.fixture(scope="module")
def peer() -> Iterator[Botocore]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_USE_FIPS_ENDPOINT"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "no-such-file")
        yield Botocore()


# The request

any_text = st.text(max_size=60)
sessions = {
    "role_arn": any_text,
    "session_name": any_text,
    "duration_seconds": st.integers(),
    "policy": st.none() | st.text(min_size=1, max_size=60),
    "policy_arns": st.lists(any_text, max_size=12),
}
"""The optional parameters of a session, in both operations."""

chained = {
    "tags": st.lists(st.tuples(any_text, any_text), max_size=12),
    "transitive_tags": st.lists(any_text, max_size=12),
    "external_id": st.none() | any_text,
    "source_identity": st.none() | any_text,
}


def in_botocores_words(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same request without unset parameters."""
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
def test_web_identity_form_equals_botocores(peer: Botocore, parameters: dict[str, Any]) -> None:
    assert peer.sends(WEB_IDENTITY, in_botocores_words(parameters)) == assume_role_with_web_identity(**parameters)


@steady
@given(st.fixed_dictionaries({**sessions, **chained}))
def test_assume_role_form_equals_botocores(peer: Botocore, parameters: dict[str, Any]) -> None:
    assert peer.sends(CHAIN, in_botocores_words(parameters)) == assume_role(ChainStep(**parameters))


def test_headers_equal_botocores(peer: Botocore) -> None:
    peer.sends(WEB_IDENTITY, REQUEST | TOKEN)
    assert peer.sent is not None
    assert (peer.sent.method, peer.sent.url) == ("POST", "https://sts.eu-west-1.amazonaws.com/")
    assert HEADERS["Content-Type"].encode() == peer.sent.headers["Content-Type"]
    assert "Authorization" not in peer.sent.headers
    assert "Authorization" not in HEADERS
    # botocore leaves this header to http.client, which sends it unless another value is set.
    assert HEADERS["Accept-Encoding"] == "identity"
    assert peer.sent.headers.get("Accept-Encoding", "identity") == "identity"


@pytest.mark.parametrize("operation", Operation)
def test_form_is_in_the_order_of_the_model(peer: Botocore, operation: Operation) -> None:
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


# The response

STS = "https://sts.amazonaws.com/doc/2011-06-15/"
GOOD: Mapping[str, str] = {
    "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
    "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "SessionToken": "IQoJb3JpZ2luX2VjEJr+/=",
    "Expiration": "2026-01-02T03:04:05Z",
    "Arn": "arn:aws:sts::111122223333:assumed-role/app/shop.app",
}


def _cdata(text: str) -> str:
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"


def _references(text: str) -> str:
    return "".join(f"&#x{ord(char):X};" for char in text)


def _with_comments(text: str) -> str:
    return "<!-- a --><?b c?>".join(escape(char) for char in text)


SPELLINGS: Sequence[Callable[[str], str]] = (escape, _cdata, _references, _with_comments)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A spelling of a document. XML allows all of these variants, and none changes the meaning."""

    prefix: str = ""
    namespace: str = STS
    attributes: str = ""
    space: str = ""
    spelling: Callable[[str], str] = escape

    def element(self, name: str, *children: str) -> str:
        inside = self.space + self.space.join(children) + self.space
        return f"<{self.prefix}{name}{self.attributes}>{inside}</{self.prefix}{name}>"

    def leaf(self, name: str, text: str) -> str:
        return f"<{self.prefix}{name}{self.attributes}>{self.spelling(text)}</{self.prefix}{name}>"

    def document(self, root: str, *children: str) -> bytes:
        xmlns = f"xmlns:{self.prefix[:-1]}" if self.prefix else "xmlns"
        declared = f' {xmlns}="{self.namespace}"' if self.namespace else ""
        whole = self.element(root, *children).replace(f"<{self.prefix}{root}", f"<{self.prefix}{root}{declared}", 1)
        return whole.encode()


renderings = st.builds(
    Rendering,
    prefix=st.sampled_from(["", "sts:"]),
    namespace=st.sampled_from([STS, "https://another.example/"]),
    attributes=st.sampled_from(["", ' a="b"', " xml:space='preserve'"]),
    space=st.sampled_from(["", "\n  ", "\t<!-- comment -->\r\n", "<?instruction?>"]),
    spelling=st.sampled_from(SPELLINGS),
) | st.just(Rendering(namespace=""))


def render(
    values: Mapping[str, str] = GOOD,
    rendering: Rendering | None = None,
    *,
    more: Sequence[str] = (),
    optional: Mapping[str, str] = {"AssumedRoleId": "AROA:shop.app"},
    sizes: Mapping[str, str] = {},
    is_reversed: bool = False,
    operation: Operation = WEB_IDENTITY,
) -> bytes:
    """Write a response like STS, with the elements in either order and `more` unknown elements."""
    xml = rendering or Rendering()
    order = (lambda rows: tuple(reversed(rows))) if is_reversed else tuple
    credentials = [xml.leaf(name, values[name]) for name in list(GOOD)[:4]]
    user = [xml.leaf(name, text) for name, text in {**optional, "Arn": values["Arn"]}.items()]
    known = [xml.element("Credentials", *order(credentials)), xml.element("AssumedRoleUser", *order(user))]
    unknown = [xml.element(name, xml.leaf("member", "1"), xml.leaf("member", "2")) for name in more]
    numbers = [xml.leaf(name, text) for name, text in sizes.items()]
    result = xml.element(f"{operation}Result", *order([*known, *numbers, *unknown]))
    metadata = xml.element("ResponseMetadata", xml.leaf("RequestId", "c6104cbe"))
    return xml.document(f"{operation}Response", *order([result, metadata]))


def as_botocore_has_it(reply: Mapping[str, Any]) -> Credentials:
    """Return botocore's result in our terms. The account is the one that its credential fetcher derives."""
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


visible = st.text(string.ascii_letters + string.digits + string.punctuation, min_size=1, max_size=40)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1), timezones=st.just(UTC) | offsets)  # noqa: DTZ001 - bounds are naive
spelt_instants = instants.map(lambda at: at.isoformat().replace("+00:00", "Z"))
values = st.fixed_dictionaries(
    {
        "AccessKeyId": visible,
        "SecretAccessKey": visible,
        "SessionToken": visible,
        "Expiration": spelt_instants,
        "Arn": st.from_regex(
            r"arn:aws(-[a-z]{2,3})?:sts::[0-9]{12}:assumed-role/[a-z]{1,9}/[ -~]{2,9}", fullmatch=True
        ),
    }
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
def test_any_spelling_of_a_response_is_read_as_by_botocore(
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
        with pytest.raises(ExchangeError, match=f"'{other}Response' and not {operation}Response"):
            read_reply(200, render(operation=other), role_arn=ROLE_ARN, operation=operation)


def differs_from_botocore(peer: Botocore, body: bytes) -> str | None:
    """We may reject more than botocore. What we accept must be equal, and no other exception is allowed."""
    try:
        got = read_reply(200, body, role_arn=ROLE_ARN)
    except ExchangeError as error:
        return None if (error.code, error.next_step) == ("MalformedReply", NextStep.RETRY) else f"raised {error!r}"
    expected = as_botocore_has_it(peer.call(WEB_IDENTITY, 200, body))
    return None if got == expected else f"{got} is not {expected}"


@st.composite
def broken_replies(draw: st.DrawFn) -> bytes:
    """Return a valid response in which bytes were changed, doubled, moved, or cut off."""
    body = bytearray(render(draw(values), draw(renderings)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 60)))
        piece = bytes(body[start:end])
        match draw(st.sampled_from(["replace", "double", "move", "cut"])):
            case "replace":
                body[start:end] = draw(
                    st.binary(max_size=4) | st.sampled_from([b"<", b"&amp;", b"<!DOCTYPE a>", b"0", b"\xc3"])
                )
            case "double":
                body[end:end] = piece
            case "move":
                del body[start:end]
                at = draw(st.integers(0, len(body)))
                body[at:at] = piece
            case _:
                del body[end:]
    return bytes(body)


@steady
@given(broken_replies())
def test_broken_response_is_rejected_or_read_as_by_botocore(peer: Botocore, body: bytes) -> None:
    assert differs_from_botocore(peer, body) is None


@steady
@given(st.binary(max_size=300))
def test_any_bytes_are_rejected(body: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_reply(200, body, role_arn=ROLE_ARN)
    assert caught.value.code == "MalformedReply"


def pieces(body: bytes) -> list[bytes]:
    """Return a document's tags and texts, in order."""
    return [piece for piece in body.replace(b"<", b"\0<").replace(b">", b">\0").split(b"\0") if piece]


def test_response_with_a_missing_or_doubled_part_never_misread(peer: Botocore) -> None:
    parts = pieces(render())
    for i, part in enumerate(parts):
        for body in (parts[:i] + parts[i + 1 :], [*parts[:i], part, *parts[i:]]):
            assert differs_from_botocore(peer, b"".join(body)) is None, body


def test_response_with_swapped_parts_is_never_misread(peer: Botocore) -> None:
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


# Errors

words = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=79)
"""Printable texts that are too short to look like a token."""


def render_error(code: str, message: str, shape: str, rendering: Rendering) -> bytes:
    error = rendering.element(
        "Error", rendering.leaf("Type", "Sender"), rendering.leaf("Code", code), rendering.leaf("Message", message)
    )
    request_id = rendering.leaf("RequestId", "c6104cbe")
    if shape == "Response":
        return rendering.document("Response", rendering.element("Errors", error), request_id)
    return rendering.document(shape, error, request_id)


@steady
@given(
    operation=st.sampled_from(Operation),
    code=st.sampled_from(sorted(NEXT_STEPS)) | st.from_regex(r"[A-Z][A-Za-z.]{0,40}", fullmatch=True),
    message=words.filter(str.strip),
    status=st.integers(301, 599),
    shape=st.sampled_from(["ErrorResponse", "Response", "Anything"]),
    rendering=renderings,
)
def test_error_has_botocores_code_and_message(
    peer: Botocore, *, operation: Operation, code: str, message: str, status: int, shape: str, rendering: Rendering
) -> None:
    body = render_error(code, message, shape, rendering)
    with pytest.raises(ClientError) as botocores:
        peer.call(operation, status, body)
    with pytest.raises(ExchangeError) as ours:
        read_reply(status, body, role_arn=ROLE_ARN, operation=operation)
    expected = botocores.value.response["Error"]
    assert (ours.value.code, ours.value.message) == (expected["Code"], expected["Message"].strip())
    assert ours.value.status == botocores.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@steady
@given(st.integers(300, 599), st.binary(max_size=300) | broken_replies())
def test_any_bytes_with_an_error_status_are_an_error(status: int, body: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        read_reply(status, body, role_arn=ROLE_ARN)
    assert caught.value.status == status
    assert caught.value.message.isprintable()


def test_every_error_of_the_model_has_a_next_step(peer: Botocore) -> None:
    shapes = [shape for operation in Operation for shape in peer.model.operation_model(operation).error_shapes]
    codes = {shape.metadata["error"]["code"] for shape in shapes}
    assert len(codes) == 7
    assert codes <= NEXT_STEPS.keys()


def test_botocores_throttling_codes_slow_down() -> None:
    codes = ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # type: ignore[attr-defined] # not in the stubs
    assert {NEXT_STEPS[code] for code in codes} == {NextStep.SLOW_DOWN}


def test_botocores_transient_codes_are_retried() -> None:
    codes = set(TransientRetryableChecker._TRANSIENT_ERROR_CODES)  # type: ignore[attr-defined] # not in the stubs
    throttling = ThrottledRetryableChecker._THROTTLED_ERROR_CODES  # type: ignore[attr-defined] # not in the stubs
    assert {NEXT_STEPS[code] for code in codes - set(throttling)} == {NextStep.RETRY}
