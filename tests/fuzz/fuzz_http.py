"""
Check invariants for any bytes that a client sends.

The grammar raises nothing. It accepts only requests that h11 accepts, with the same result. The response does not
depend on how the bytes arrive. No response contains a secret unless the request contained the authorization.
"""

import json

from sidecar.serving.container_credentials import respond
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.http import MAX_HEAD_BYTES, Parse, Rejection, Request, parse
from tests.against.h11.test_http import by_h11
from tests.unit.serving.test_container_credentials import CREDENTIALS, NOW, PATH, ROLE, SECRET, no_lookup

HIDDEN = (SECRET, CREDENTIALS.secret_access_key.encode(), CREDENTIALS.session_token.encode())
PREFIXES = 16
"""The maximum number of prefixes that are tried, because all prefixes of a long input would take too long."""


def target(data: bytes) -> None:
    request = request_in(data, parse)
    if request is not None:
        assert request.method == b"GET"
        _only_the_secret_opens(request)


def request_in(data: bytes, parse: Parse) -> Request | None:
    """Check the grammar with the data, and return the request at the start of the data, or None."""
    found = parse(data)
    _prefixes_agree(data, found, parse)
    if isinstance(found, Rejection):
        check_complete_response(found.content)
    elif isinstance(found, Request):
        _h11_reads_the_same(data, found)
        return found
    else:
        assert len(data) < MAX_HEAD_BYTES
    return None


def _prefixes_agree(data: bytes, found: Request | Rejection | None, parse: Parse) -> None:
    """Check that the first response does not depend on the pieces of the input, or on bytes after the request."""
    for end in range(0, len(data), len(data) // PREFIXES + 1):
        assert parse(data[:end]) in (None, found)
    if found is not None:
        assert parse(data + b"\0") == found


def check_complete_response(response: bytes) -> None:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    if body:
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    if body and b"\r\nContent-Type: application/json\r\n" in head:
        json.loads(body)


def _h11_reads_the_same(data: bytes, request: Request) -> None:
    theirs = by_h11(data)
    assert theirs is not None, "we accept a request that h11 rejects"
    method, target, version, headers = theirs
    assert method == request.method
    assert target.partition(b"?")[0] == request.path
    assert (version, headers) == (request.version, request.headers)


def _only_the_secret_opens(request: Request) -> None:
    response = respond(request, {PATH: ROLE}, LOOPBACK, NOW, no_lookup)
    check_complete_response(response.content)
    if request.headers.get(b"authorization") != SECRET or request.path != PATH:
        assert response.status != 200
    if response.status != 200:
        assert not any(secret in response.content for secret in HIDDEN)
