"""
What must hold for any bytes that a client sends.

The grammar raises nothing, takes only what h11 takes and reads the same, gives one answer however the bytes arrive,
and no answer holds a secret unless the request held the one that opens it.
"""

import json

from sidecar.endpoint import LOOPBACK_HOSTS, answer
from sidecar.http import MAX_HEAD_BYTES, Refusal, Request, parse
from tests.test_endpoint import CREDENTIALS, NOW, PATH, ROLE, SECRET
from tests.test_http_against_h11 import by_h11

HIDDEN = (SECRET, CREDENTIALS.secret_access_key.encode(), CREDENTIALS.session_token.encode())
PREFIXES = 16
"""So many of the prefixes are tried; all of them would make long inputs slow."""


def target(data: bytes) -> None:
    found = parse(data)
    _prefixes_agree(data, found)
    if isinstance(found, Refusal):
        _is_a_whole_answer(found.response)
    elif isinstance(found, Request):
        _h11_reads_the_same(data, found)
        _only_the_secret_opens(found)
    else:
        assert len(data) < MAX_HEAD_BYTES


def _prefixes_agree(data: bytes, found: Request | Refusal | None) -> None:
    """However the bytes arrive, the first answer is the answer, and nothing that follows changes it."""
    for end in range(0, len(data), len(data) // PREFIXES + 1):
        assert parse(data[:end]) in (None, found)
    if found is not None:
        assert parse(data + b"\0") == found


def _is_a_whole_answer(response: bytes) -> None:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    if body:
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        json.loads(body)


def _h11_reads_the_same(data: bytes, request: Request) -> None:
    theirs = by_h11(data)
    assert theirs is not None, "we take what h11 refuses"
    method, target, version, headers = theirs
    assert method == b"GET"
    assert target.partition(b"?")[0] == request.path
    assert (version, headers) == (request.version, request.headers)


def _only_the_secret_opens(request: Request) -> None:
    given = answer(request, {PATH: ROLE}, LOOPBACK_HOSTS, NOW)
    _is_a_whole_answer(given.response)
    if request.headers.get(b"authorization") != SECRET or request.path != PATH:
        assert given.status != 200
    if given.status != 200:
        assert not any(secret in given.response for secret in HIDDEN)
