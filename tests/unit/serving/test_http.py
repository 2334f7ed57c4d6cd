"""Test the grammar of a request, the rejections of all other bytes, and the format of a response."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.serving.http import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    Grammar,
    Parse,
    Rejection,
    Request,
    error_response,
    parse,
    response,
)

HOST = b"Host: 127.0.0.1:4772\r\n"
START = b"GET /v1/credentials HTTP/1.1\r\n"
PLAIN = START + HOST + b"\r\n"
WITH_PUT = Grammar("GET", "PUT").parse
PUT = b"PUT /latest/api/token HTTP/1.1\r\n" + HOST


def rejection_of(head: bytes) -> Rejection:
    rejection = parse(head)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def test_request_has_path_version_and_headers() -> None:
    request = parse(START + HOST + b"Accept: \t*/* \t\r\nX-Empty:\r\n\r\n")
    assert isinstance(request, Request)
    assert request.path == b"/v1/credentials"
    assert request.version == b"1.1"
    assert request.headers == {b"host": b"127.0.0.1:4772", b"accept": b"*/*", b"x-empty": b""}


def test_path_does_not_include_the_query() -> None:
    request = parse(b"GET /v1/credentials?a=1&b=%2F?/ HTTP/1.1\r\n" + HOST + b"\r\n")
    assert isinstance(request, Request)
    assert request.path == b"/v1/credentials"


def test_http_1_0_needs_no_host() -> None:
    request = parse(b"GET / HTTP/1.0\r\n\r\n")
    assert isinstance(request, Request)
    assert (request.path, request.version, request.headers) == (b"/", b"1.0", {})


def test_bytes_after_the_request_are_ignored() -> None:
    request = parse(PLAIN + b"\0 anything")
    assert isinstance(request, Request)
    assert request.size == len(PLAIN)


def test_content_length_zero_is_accepted() -> None:
    assert isinstance(parse(START + HOST + b"Content-Length: 0\r\n\r\n"), Request)


@pytest.mark.parametrize("length", [0, 1, 20, len(START), len(PLAIN) - 1])
def test_incomplete_request_needs_more_bytes(length: int) -> None:
    assert parse(PLAIN[:length]) is None


REJECTED = {
    "bare LF after the request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "bare LF after a header": (400, START + b"Host: a\n\r\n"),
    "bare LF inside a value": (400, START + b"Host: a\nX: y\r\n\r\n"),
    "folded header": (400, START + HOST + b"A: b\r\n c\r\n\r\n"),
    "NUL in a value": (400, START + HOST + b"A: \0\r\n\r\n"),
    "CR in a value": (400, START + HOST + b"A: b\rc\r\n\r\n"),
    "DEL in a value": (400, START + HOST + b"A: \x7f\r\n\r\n"),
    "space before the colon": (400, START + b"Host : a\r\n\r\n"),
    "empty header name": (400, START + HOST + b": x\r\n\r\n"),
    "no colon": (400, START + HOST + b"Accept\r\n\r\n"),
    "non-ASCII header name": (400, START + HOST + b"\xc3\xa9: x\r\n\r\n"),
    "chunked body": (400, START + HOST + b"Transfer-Encoding: chunked\r\n\r\n"),
    "the transfer coding identity": (400, START + HOST + b"transfer-encoding: identity\r\n\r\n"),
    "a body": (400, START + HOST + b"Content-Length: 5\r\n\r\n"),
    "signed body length": (400, START + HOST + b"Content-Length: +0\r\n\r\n"),
    "two equal body lengths": (400, START + HOST + b"Content-Length: 0\r\ncontent-length: 0\r\n\r\n"),
    "no Host in 1.1": (400, START + b"Accept: */*\r\n\r\n"),
    "two Hosts": (400, START + HOST + b"HOST: 127.0.0.1:4772\r\n\r\n"),
    "two Authorizations": (400, START + HOST + b"Authorization: a\r\nauthorization: a\r\n\r\n"),
    "absolute form": (400, b"GET http://127.0.0.1/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk form": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "authority form": (400, b"GET 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "non-ASCII target": (400, b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tab for a space": (400, b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "lower-case protocol": (400, b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    "empty line first": (400, b"\r\n" + PLAIN),
    "TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "SOCKS hello": (400, b"\x05\x01\x00"),
    "lower-case method": (405, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HEAD": (405, b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "POST": (405, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx"),
    "PUT": (405, b"PUT /latest/api/token HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (405, b"CONNECT 10.0.0.1:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "OPTIONS *": (405, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/3": (505, b"GET / HTTP/3\r\n" + HOST + b"\r\n"),
    "HTTP/11.1": (505, b"GET / HTTP/11.1\r\n" + HOST + b"\r\n"),
    "ten MiB of target": (431, b"GET /" + b"a" * 10 * 1024 * 1024),
    "one field over the limit": (431, START + HOST + b"A: b\r\n" * MAX_FIELDS + b"\r\n"),
    "one field over the limit, without an end of the head": (431, START + HOST + b"A: b\r\n" * MAX_FIELDS),
    "a hundred thousand fields": (431, START + HOST + b"A: b\r\n" * 100_000 + b"\r\n"),
    "a long field": (431, START + HOST + b"A: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "head"), REJECTED.values(), ids=REJECTED.keys())
def test_rejected_request_has_its_status(status: int, head: bytes) -> None:
    assert rejection_of(head).status == status


@pytest.mark.parametrize("head", [head[:20_000] for _, head in REJECTED.values()], ids=REJECTED.keys())
def test_rejection_does_not_depend_on_the_split_of_the_bytes(head: bytes) -> None:
    step = 1 if len(head) < 1000 else 499
    first = next(result for end in range(0, len(head) + step, step) if (result := parse(head[:end])) is not None)
    assert first == rejection_of(head)


def test_limit_for_the_size_of_the_head_is_exact() -> None:
    padding = MAX_HEAD_BYTES - len(PLAIN) - len(b"A: \r\n")
    head = START + HOST + b"A: " + b"b" * padding + b"\r\n\r\n"
    assert len(head) == MAX_HEAD_BYTES
    assert isinstance(parse(head), Request)
    assert rejection_of(head.replace(b"A: ", b"A: b")).status == 431


def test_maximum_number_of_fields_is_accepted() -> None:
    assert isinstance(parse(START + HOST + b"A: b\r\n" * (MAX_FIELDS - 1) + b"\r\n"), Request)


pieces = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [START, HOST, b"\r\n", b"\n", b"\r", b"A: b\r\n", b"Content-Length: 0\r\n", b"Host", b":", b" ", b"GET",
         b"/", b"HTTP/1.1", b"HTTP/1.0", b"POST", b"PUT", PUT, b"\0", b"\t", b"?x=1", b"Authorization: s\r\n"]
    ),
)  # fmt: skip


grammars = st.sampled_from([parse, WITH_PUT])


@given(
    grammars,
    st.lists(pieces, max_size=12).map(b"".join)
    | st.lists(pieces, max_size=8).map(lambda rest: START + HOST + b"".join(rest)),
)
def test_result_does_not_depend_on_the_split_of_the_bytes(read: Parse, data: bytes) -> None:
    first = next((result for end in range(len(data) + 1) if (result := read(data[:end])) is not None), None)
    assert first == read(data)


@given(grammars, st.lists(pieces, max_size=12).map(b"".join), st.binary(max_size=20))
def test_later_bytes_never_change_the_result(read: Parse, data: bytes, more: bytes) -> None:
    result = read(data)
    if result is not None:
        assert read(data + more) == result


# The grammar that also allows PUT


@pytest.mark.parametrize("more", [b"", b"Content-Length: 0\r\n"])
def test_put_is_accepted_only_if_the_grammar_allows_it(more: bytes) -> None:
    request = WITH_PUT(PUT + more + b"\r\n")
    assert isinstance(request, Request)
    assert (request.method, request.path) == (b"PUT", b"/latest/api/token")
    assert rejection_of(PUT + more + b"\r\n").status == 405


@pytest.mark.parametrize(
    "more", [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 00\r\n"]
)
def test_put_with_a_body_is_rejected(more: bytes) -> None:
    rejection = WITH_PUT(PUT + more + b"\r\nx")
    assert isinstance(rejection, Rejection)
    assert rejection.status == 400


HTTP_0_9 = b"GET /\r\n"
"""A request in HTTP/0.9, which has only the method GET."""


@pytest.mark.parametrize("head", [head[:20_000] for _, head in REJECTED.values()], ids=REJECTED.keys())
def test_put_is_rejected_for_the_same_reasons_as_get(head: bytes) -> None:
    rejection = WITH_PUT(head)
    if head.startswith(b"PUT "):
        assert isinstance(rejection, Request)
        return
    assert isinstance(rejection, Rejection)
    assert rejection.status == rejection_of(head).status
    if head.startswith(b"GET ") and head != HTTP_0_9:
        assert WITH_PUT(b"PUT" + head[3:]) == rejection


def test_rejected_method_gets_the_allowed_methods() -> None:
    assert b"\r\nAllow: GET\r\n" in rejection_of(b"POST / HTTP/1.1\r\n").content
    rejection = WITH_PUT(b"POST / HTTP/1.1\r\n")
    assert isinstance(rejection, Rejection)
    assert b"\r\nAllow: GET, PUT\r\n" in rejection.content
    assert b"Only GET and PUT are allowed." in rejection.content


def test_response_to_head_has_no_body() -> None:
    head = rejection_of(b"HEAD / HTTP/1.1\r\n").content
    assert head.startswith(b"HTTP/1.1 405 ")
    assert head.endswith(b"\r\n\r\n")


def test_response_has_length_and_connection_close() -> None:
    assert response(200, b'{"a": 1}') == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 8\r\n"
        b"Cache-Control: no-store\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b'{"a": 1}'
    )


def test_response_can_have_another_type_and_headers() -> None:
    whole = response(200, b"ok\n", content_type="text/plain; charset=utf-8", headers=[("X-A", "b")])
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in whole
    assert b"\r\nX-A: b\r\n\r\nok\n" in whole


@pytest.mark.parametrize("message", ["plain", 'with "quotes" and \u00e9', ""])
def test_error_body_has_its_keys_in_both_spellings(message: str) -> None:
    head, _, body = error_response(503, message, code="CredentialsUnavailable").partition(b"\r\n\r\n")
    assert json.loads(body) == {
        "code": "CredentialsUnavailable",
        "message": message,
        "Code": "CredentialsUnavailable",
        "Message": message,
    }
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert b"\r\nRetry-After: 1\r\nx-amz-retry-after: 1000" in head


def test_error_code_defaults_to_the_reason_phrase() -> None:
    whole = error_response(404, "x")
    assert json.loads(whole.partition(b"\r\n\r\n")[2])["Code"] == "NotFound"
    assert b"retry-after" not in whole.lower()


def test_every_503_tells_the_client_to_retry_in_a_second() -> None:
    for whole in (response(503, b"starting\n", content_type="text/plain"), error_response(503, "starting")):
        assert b"\r\nRetry-After: 1\r\nx-amz-retry-after: 1000\r\n" in whole
