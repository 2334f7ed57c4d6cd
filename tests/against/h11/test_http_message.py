"""
Compare the parser of the webhook's HTTP server with h11. h11 must accept all heads that our parser accepts.

Our parser need not accept everything that h11 accepts. It deliberately rejects a bare LF, folded headers, control
characters and every Transfer-Encoding.
"""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.serving.http_message import Head, RejectedError, head_end, parse_head
from tests.against.h11.test_http import SPLICES

REAL = {
    "API server": b"POST /inject?timeout=10s HTTP/1.1\r\nHost: irsa-sidecar-webhook.irsa-sidecar.svc:443\r\n"
    b"User-Agent: kube-apiserver-admission\r\nContent-Length: 2544\r\nAccept: application/json, */*\r\n"
    b"Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
    "kubelet": b"GET /readyz HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\n"
    b"Connection: close\r\n\r\n",
    "Prometheus": b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nUser-Agent: Prometheus/3.0.1\r\n"
    b"Accept: text/plain;version=0.0.4;q=0.2,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
    "botocore": b"POST / HTTP/1.1\r\nHost: 127.0.0.1:4775\r\nAccept-Encoding: identity\r\n"
    b"Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\nContent-Length: 901\r\n"
    b"Expect: 100-continue\r\n\r\n",
    "curl, HTTP/1.0": b"GET /livez HTTP/1.0\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
}
"""The heads of real requests to the webhook and to the local services."""

MORE_SPLICES = [
    *SPLICES,
    b"\r\nContent-Length: 2544", b"\r\nContent-Length: +1", b"\r\nContent-Length: 1, 1", b"\r\nConnection: Close",
    b"\r\nExpect: 100-Continue", b"DELETE", b"\x0b", b"\xa0",
]  # fmt: skip

splices = st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(MORE_SPLICES) | st.binary(max_size=3))


def spliced(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for start, length, splice in changes:
        data = data[:start] + splice + data[start + length :]
    return data


def by_ours(data: bytes) -> Head | None:
    """Return the head at the start of the data, or None if the head is invalid or incomplete."""
    try:
        end = head_end(bytearray(data), 0, 16_384)
        return None if end is None else parse_head(data[:end])
    except RejectedError:
        return None


def by_h11(data: bytes) -> Head | None:
    """
    Return the head as h11 reads it, or None for an invalid or incomplete head.

    The conversion of the length cannot fail, because h11 checks that the length is a number.
    """
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
    length = int(dict(headers).get("content-length", "0"))
    is_waiting = connection.they_are_waiting_for_100_continue and length > 0
    response = connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")])) or b""
    is_last = b"connection: close" in response.lower()
    return Head(event.method.decode(), event.target.decode(), headers, length, is_last, is_waiting)


@pytest.mark.parametrize("data", REAL.values(), ids=REAL.keys())
def test_real_head_has_the_result_of_h11(data: bytes) -> None:
    assert by_ours(data) == by_h11(data) is not None


@given(st.sampled_from(sorted(REAL.values())), st.lists(splices, max_size=4))
@example(REAL["API server"], [(0, 0, b"\r\n")])
@example(REAL["API server"], [(len(REAL["API server"]) - 2, 0, b"Transfer-Encoding: chunked\r\n")])
@example(REAL["API server"], [(len(REAL["API server"]) - 2, 0, b"content-length: 1\r\n")])
@example(REAL["kubelet"], [(REAL["kubelet"].index(b"close"), 5, b"Upgrade,\tclose")])
def test_accepted_head_has_the_result_of_h11(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    data = spliced(data, changes)
    head = by_ours(data)
    if head is not None:
        assert head == by_h11(data), "h11 rejects this head, or reads it in another way"


@given(st.sampled_from(sorted(REAL.values())), st.lists(splices, max_size=2))
def test_head_in_pieces_ends_at_the_same_byte(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """Search after each byte, as the server does after each piece."""
    data = spliced(data, changes)
    found: int | None = None
    try:
        whole = head_end(bytearray(data), 0, 16_384)
        for size in range(len(data) + 1):
            if found is None:
                found = head_end(bytearray(data[:size]), max(0, size - 1), 16_384)
    except RejectedError:
        whole = found
    assert found == whole
