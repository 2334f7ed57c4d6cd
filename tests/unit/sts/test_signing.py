"""Compare the signature of a request with the signature of botocore's client."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import botocore.auth
import botocore.session
import httpx
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.credentials import Credentials
from sidecar.sts.endpoint import signing_region
from sidecar.sts.errors import Operation
from sidecar.sts.signing import signature_headers
from sidecar.sts.wire import HEADERS
from tests.against.botocore.peer import Raw, render
from tests.unit.sts.test_endpoint import new_regions

STEP: dict[str, Any] = {"RoleArn": "arn:aws:iam::111122223333:role/next", "RoleSessionName": "shop.app"}


class Signing:
    """botocore's STS client with our clock. It stops before it opens a socket."""

    def __init__(self) -> None:
        self._session = botocore.session.Session()
        self.now = datetime(2027, 1, 15, 8, tzinfo=UTC)
        self.sent: AWSPreparedRequest | None = None

    def send(self, keys: tuple[str, str, str], region: str, endpoint_url: str | None) -> AWSPreparedRequest:
        """Return the request that botocore's client sends for STEP."""
        config = Config(parameter_validation=False, retries={"total_max_attempts": 1, "mode": "standard"})
        client = self._session.create_client(
            "sts",
            region_name=region,
            endpoint_url=endpoint_url,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            aws_session_token=keys[2],
            config=config,
        )
        client.meta.events.register("before-send.sts.AssumeRole", self._answer)
        client.assume_role(**STEP)  # type: ignore[attr-defined] # created at run time
        assert self.sent is not None
        return self.sent

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> Any:
        self.sent = request
        return AWSResponse(request.url, 200, HTTPHeaders(), Raw(render(operation=Operation.ASSUME_ROLE)))


@pytest.fixture(scope="module")
def peer() -> Iterator[Signing]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_STS_REGIONAL_ENDPOINTS"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "no-such-file")
        signing = Signing()
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_: signing.now)
        yield signing


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def signed_as(botocores: AWSPreparedRequest, keys: tuple[str, str, str], region: str, at: datetime) -> dict[str, str]:
    """Return the headers that our code adds to the same request."""
    credentials = Credentials(*keys, expires_at=at, role_arn="unused", account_id="111122223333")
    body = botocores.body if isinstance(botocores.body, bytes) else str(botocores.body).encode()
    headers = {"Content-Type": HEADERS["Content-Type"], "Host": httpx.URL(botocores.url).netloc.decode()}
    return signature_headers(botocores.url, headers, body, credentials, region=region, at=at)


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
hosts = st.from_regex(
    r"(sts\.[a-z]{1,9}\.example|127\.0\.0\.1|\[::1\]|STS\.Example)(:[1-9][0-9]{1,3})?", fullmatch=True
)
paths = st.sampled_from(["", "/", "/sts", "/a/b/", "/a b", "/%7Euser", "/ü", "/a//b"])


@settings(max_examples=30)
@given(
    keys=st.tuples(visible, visible, visible),
    region=new_regions,
    at=st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    endpoint_url=st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), hosts, paths),
)
@example(("AKID", "secret", "token"), "eu-west-1", datetime(2027, 1, 15, 8, tzinfo=UTC), None)
@example(("AKID", "secret", "token"), "fips-us-gov-west-1", datetime(2027, 1, 15, 8, tzinfo=UTC), None)
@example(("AKID", "secret", "token"), "aws-global", datetime(2027, 1, 15, 8, tzinfo=UTC), None)
def test_signature_equals_the_signature_of_botocore(
    peer: Signing, keys: tuple[str, str, str], region: str, at: datetime, endpoint_url: str | None
) -> None:
    peer.now = at
    botocores = peer.send(keys, region, endpoint_url)
    ours = signed_as(botocores, keys, signing_region(region), at)
    assert ours == {name: text(botocores.headers[name]) for name in ours}
    assert set(ours) == {"X-Amz-Date", "X-Amz-Security-Token", "Authorization"}
