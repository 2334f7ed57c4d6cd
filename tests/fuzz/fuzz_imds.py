"""
Check invariants for any bytes that a client sends to the endpoint that emulates EC2's metadata service.

The grammar has one more method than the grammar of the other listeners. A response contains a secret only if the
request is a GET with the token of an open session and was not forwarded.
"""

from sidecar.serving import imds
from sidecar.serving.hosts import LOOPBACK
from tests.fuzz.fuzz_http import HIDDEN, check_complete_response, request_in
from tests.unit.serving.test_container_credentials import NOW, no_lookup
from tests.unit.serving.test_imds import KEY, ROLE

OPEN_SESSION = b"00000000014a5a509305fe3a8879b38472e79f80167125c4b3c174cbcd3d424cb6e792c323701c6e"
"""A session token for KEY and NOW, which occurs in the corpus."""


def target(data: bytes) -> None:
    request = request_in(data, imds.parse)
    if request is None:
        return
    response = imds.respond(request, ROLE, imds.Instance(KEY, LOOPBACK, "eu-west-1"), NOW, no_lookup)
    check_complete_response(response.content)
    is_open = request.headers.get(b"x-aws-ec2-metadata-token") == OPEN_SESSION
    if request.method != b"GET" or not is_open or b"x-forwarded-for" in request.headers:
        assert response.status != 200 or request.path.strip(b"/") == b"latest/api/token"
        assert not any(secret in response.content for secret in HIDDEN)
