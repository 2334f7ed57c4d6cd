"""
Compare our HTTP parser with h11. h11 must accept all requests that our parser accepts, with the same result.

Our parser need not accept everything that h11 accepts. It deliberately rejects a bare LF, folded headers and bodies.
"""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.serving.http import Grammar, Request, parse

REAL = {
    "botocore": b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1:4772\r\nAccept-Encoding: identity\r\n"
    b"Accept: application/json\r\nUser-Agent: python-urllib3/2.2.1\r\nAuthorization: s3cr3t\r\n\r\n",
    "JavaScript v3": b"GET /v1/credentials?a=1&b=%2F HTTP/1.1\r\nAuthorization: s3cr3t\r\nHost: 127.0.0.1:4772\r\n"
    b"Connection: keep-alive\r\n\r\n",
    "Java v2": b"GET /v1/credentials HTTP/1.1\r\nUser-Agent: aws-sdk-java/2.25.1\r\n"
    b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nAccept: application/json\r\nAccept: */*\r\n"
    b"Authorization: s3cr3t\r\nHost: 127.0.0.1:4772\r\nConnection: keep-alive\r\n\r\n",
    "Go v2": b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1:4772\r\nUser-Agent: aws-sdk-go-v2/1.30.0\r\n"
    b"Accept: application/json\r\nAmz-Sdk-Request: attempt=1; max=3\r\nAuthorization: s3cr3t\r\n"
    b"Accept-Encoding: gzip\r\n\r\n",
    "CRT": b"GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: s3cr3t\r\nAccept: application/json\r\n"
    b"User-Agent: aws-sdk-crt/ecs-credentials-provider\r\nAccept-Encoding: identity\r\n"
    b"Connection: keep-alive\r\n\r\n",
    "curl, HTTP/1.0": b"GET / HTTP/1.0\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
}
"""The real requests of SDKs to the container credentials endpoint, and a request of curl."""

WITH_PUT = Grammar("GET", "PUT").parse

REAL_IMDS = {
    "botocore": b"PUT /latest/api/token HTTP/1.1\r\nHost: 127.0.0.1:4774\r\nAccept-Encoding: identity\r\n"
    b"x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nUser-Agent: Botocore/1.29.27 Python/3.11.7\r\n"
    b"Content-Length: 0\r\n\r\n",
    "Java v1": b"PUT //latest/api/token HTTP/1.1\r\nUser-Agent: aws-sdk-java/1.12.797\r\nAccept: */*\r\n"
    b"x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nHost: 127.0.0.1:4774\r\nConnection: keep-alive\r\n\r\n",
    "JavaScript v3": b"PUT /latest/api/token HTTP/1.1\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"
    b"Host: 127.0.0.1:4774\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "Go v2": b"GET /latest/dynamic/instance-identity/document HTTP/1.1\r\nHost: 127.0.0.1:4774\r\n"
    b"User-Agent: aws-sdk-go-v2/1.47.8\r\nAmz-Sdk-Request: attempt=1; max=3\r\n"
    b"X-Aws-Ec2-Metadata-Token: 0000000009c8ab08fb13\r\nAccept-Encoding: gzip\r\n\r\n",
}
"""The real requests of SDKs to the endpoint that emulates EC2's metadata service."""

ALL_REAL = {**REAL, **{f"{name}, IMDS": data for name, data in REAL_IMDS.items()}}

Head = tuple[bytes, bytes, bytes, dict[bytes, bytes]]


def by_h11(data: bytes) -> Head | None:
    """Return method, target, version and headers as h11 reads them, or None for an invalid or incomplete request."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    return event.method, event.target, event.http_version, dict(event.headers)


@pytest.mark.parametrize("data", ALL_REAL.values(), ids=ALL_REAL.keys())
def test_real_request_has_the_result_of_h11(data: bytes) -> None:
    request = WITH_PUT(data)
    assert isinstance(request, Request)
    assert by_h11(data) == (request.method, data.split(b" ")[1], request.version, request.headers)
    assert isinstance(parse(data), Request) == data.startswith(b"GET ")


SPLICES = [
    b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\x80", b"\x7f", b"#", b"?", b"/", b"//", b"\r\n\r\n",
    b"\r\n ", b"Host: a\r\n", b"Host:\r\n", b"\r\nHost: a", b"\r\nContent-Length: 0", b"\r\nContent-Length: 7",
    b"\r\nTransfer-Encoding: chunked", b"HTTP/1.0", b"HTTP/2.0", b"POST", b"PUT", b"\xc3\xa9", b"X\r\n",
    b"\r\nX : y", b"\r\n: y",
]  # fmt: skip

splices = st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(SPLICES) | st.binary(max_size=3))


@given(st.sampled_from(sorted(ALL_REAL.values())), st.lists(splices, max_size=4))
@example(REAL["botocore"], [(0, 0, b"\r\n")])
@example(REAL["botocore"], [(len(REAL["botocore"]) - 2, 0, b"Transfer-Encoding: chunked\r\n")])
@example(REAL_IMDS["Java v1"], [(len(REAL_IMDS["Java v1"]) - 2, 0, b"Content-Length: 1\r\n")])
def test_accepted_request_has_the_result_of_h11(data: bytes, mutations: list[tuple[int, int, bytes]]) -> None:
    for start, length, splice in mutations:
        data = data[:start] + splice + data[start + length :]
    request = WITH_PUT(data)
    if not isinstance(request, Request):
        return
    assert parse(data) == request or request.method == b"PUT"
    h11s = by_h11(data)
    assert h11s is not None, "we accept a request that h11 rejects"
    method, target, version, headers = h11s
    assert method == request.method
    assert target.partition(b"?")[0] == request.path
    assert version == request.version
    assert headers == request.headers


@given(st.sampled_from([REAL["Java v2"], REAL_IMDS["Java v1"]]), st.lists(splices, max_size=2))
def test_mutated_request_in_pieces_has_the_result_of_the_whole(
    data: bytes, mutations: list[tuple[int, int, bytes]]
) -> None:
    for start, length, splice in mutations:
        data = data[:start] + splice + data[start + length :]
    first = next((response for end in range(len(data) + 1) if (response := WITH_PUT(data[:end])) is not None), None)
    assert first == WITH_PUT(data)
