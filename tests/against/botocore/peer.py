"""Run botocore's client without its socket, and write XML in several forms that botocore's parser and ours accept."""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from botocore import UNSIGNED, xform_name
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.model import ServiceModel
from hypothesis import settings
from hypothesis import strategies as st

from sidecar.sts.errors import Operation

steady = settings(deadline=None, derandomize=True)
"""The Hypothesis settings: the same inputs on every run, and no deadline."""

ROLE_ARN = "arn:aws:iam::111122223333:role/app"
WEB_IDENTITY, CHAIN = Operation.ASSUME_ROLE_WITH_WEB_IDENTITY, Operation.ASSUME_ROLE
REQUEST = {"RoleArn": ROLE_ARN, "RoleSessionName": "shop.app", "DurationSeconds": 3600}
TOKEN = {"WebIdentityToken": "token"}


class Raw:
    """The body of a response, with the methods that botocore uses."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class Botocore:
    """A botocore client. `sent` is the last request."""

    def __init__(self) -> None:
        config = Config(
            signature_version=UNSIGNED,
            parameter_validation=False,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        session = botocore.session.Session()
        # These credentials are never sent. They prevent a search for other credentials.
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
        """
        Send `request` and parse the response.

        Raises ClientError for an error of STS, or another exception of botocore for invalid bytes.
        """
        self._reply = (status, body)
        reply: dict[str, Any] = getattr(self._client, xform_name(operation))(**request)
        return reply

    def sends(self, operation: Operation, request: Mapping[str, Any]) -> bytes:
        """Return the body of the request that botocore would send."""
        self.call(operation, 200, render(operation=operation), request)
        assert self.sent is not None
        return self.sent.body if isinstance(self.sent.body, bytes) else str(self.sent.body).encode()

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> Any:
        self.sent = request
        status, body = self._reply
        return AWSResponse(request.url, status, HTTPHeaders(), Raw(body))


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
    """One way to write a document. XML allows all of these ways, and they do not change the meaning."""

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
    """Return a successful response of STS. `more` names unknown elements, and `is_reversed` reverses all elements."""
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


@st.composite
def broken_replies(draw: st.DrawFn) -> bytes:
    """Return a valid response in which bytes were changed, doubled, moved or removed from the end."""
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
