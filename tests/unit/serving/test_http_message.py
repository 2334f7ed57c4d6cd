"""Test the parser and the responses of the HTTP server for the webhook and the local services."""

import pytest

from sidecar.serving.http_message import (
    MAX_HEADERS,
    RejectedError,
    Response,
    head_end,
    parse_head,
    response_bytes,
)

LINE, HOST = b"POST / HTTP/1.1\r\n", b"Host: x\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/2.0\r\n" + HOST, 400),
        (b"POST  / HTTP/1.1\r\n" + HOST, 400),
        (b"POST /\xff HTTP/1.1\r\n" + HOST, 400),
        (LINE, 400),
        (LINE + HOST + HOST, 400),
        (LINE + HOST + b" folded: x\r\n", 400),
        (LINE + HOST + b"Name : x\r\n", 400),
        (LINE + HOST + b"Name: a\x0bb\r\n", 400),
        (LINE + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
        (LINE + HOST + b"Content-Length: +1\r\n", 400),
        (LINE + HOST + b"Content-Length: \xb2\r\n", 400),
        (LINE + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n", 400),
        (LINE + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 411),
        (LINE + HOST + b"transfer-encoding: identity\r\n", 411),
    ],
)
def test_invalid_head_is_rejected(head: bytes, status: int) -> None:
    with pytest.raises(RejectedError) as caught:
        parse_head(head + b"\r\n")
    assert caught.value.response.status == status


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.0\r\n" + HOST,
        LINE + HOST + b"Connection: keep-alive, Close\r\n",
        LINE + HOST + b"Connection: upgrade\r\nConnection: close\r\n",
        LINE + HOST + b"Connection: ,CLOSE\t,\r\n",
    ],
)
def test_client_can_end_its_connection(head: bytes) -> None:
    assert parse_head(head + b"\r\n").is_last


@pytest.mark.parametrize("value", [b"", b"Connection: closed, not-close, close-it, close it\r\n", b"Keep: close\r\n"])
def test_other_words_do_not_end_a_connection(value: bytes) -> None:
    assert not parse_head(LINE + HOST + value + b"\r\n").is_last


@pytest.mark.parametrize("received", [b"\r\nPOST", b"\x16\x03\x01", b"a" * 101])
def test_impossible_head_is_rejected_while_incomplete(received: bytes) -> None:
    with pytest.raises(RejectedError):
        head_end(bytearray(received), 0, 100)


def test_line_that_ends_in_a_bare_lf_is_rejected_at_once() -> None:
    received = b"POST / HTTP/1.1\nHost"
    with pytest.raises(RejectedError):
        parse_head(received[: head_end(bytearray(received), 0, 100)])


def test_head_above_the_limit_is_rejected() -> None:
    head = bytearray(LINE + HOST + b"\r\n")
    assert head_end(head, 0, len(head)) == len(head)
    with pytest.raises(RejectedError) as caught:
        head_end(head, 0, len(head) - 1)
    assert caught.value.response.status == 431


@pytest.mark.parametrize("line", [b"a:\r\n", b"Name: value\r\n"])
def test_number_of_headers_is_limited(line: bytes) -> None:
    """The work for a head is proportional to its headers, and a head of 16 KiB could have 4,000."""
    head = LINE + HOST + line * (MAX_HEADERS - 1)
    assert len(parse_head(head + b"\r\n").headers) == MAX_HEADERS
    with pytest.raises(RejectedError) as caught:
        parse_head(head + line + b"\r\n")
    assert caught.value.response.status == 431


@pytest.mark.parametrize("value", ["two\r\nlines", "two\nlines", "a\0b", "é"])
def test_malformed_header_value_is_not_sent(value: str) -> None:
    for response in (Response(200, b"", headers=(("X-Reply", value),)), Response(200, b"", value)):
        with pytest.raises(ValueError, match="not one line"):
            response_bytes(response, has_body=True, is_last=False)
