"""
Call the node's metadata service as an SDK does, with a deadline of one second per request.

Rule: the URL of the service is an argument, and the probe calls no other server. It fetches only the role's name, never
credentials.
"""

from urllib.parse import urlsplit

import h11
import trio

from sidecar.doctor.checks.metadata import MetadataFacts
from sidecar.doctor.probes.http_request import Response, send_request

RESPONSE_SECONDS = 1.0

_ROLE = "/latest/meta-data/iam/security-credentials/"


async def collect(address: str) -> MetadataFacts:
    """
    Return the versions that respond, and the node's role.

    Raises nothing.
    """
    roles: dict[str, str | None] = {}

    async def version_2() -> None:
        token = await _request(address, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        if token is not None and token.status == 200:
            roles["v2"] = await _role(address, {"X-aws-ec2-metadata-token": token.body.decode("latin-1").strip()})

    async def version_1() -> None:
        response = await _request(address, "GET", _ROLE, {})
        if response is not None and response.status in {200, 404}:
            roles["v1"] = _name(response)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(version_2)
        nursery.start_soon(version_1)
    names = [name for name in roles.values() if name is not None]
    return MetadataFacts(address, has_v2="v2" in roles, has_v1="v1" in roles, role=names[0] if names else None)


async def _role(address: str, headers: dict[str, str]) -> str | None:
    response = await _request(address, "GET", _ROLE, headers)
    return None if response is None else _name(response)


def _name(response: Response) -> str | None:
    """Return the node's role, or "" if the node has none (404). Return None if the response has no valid name."""
    if response.status == 404:
        return ""
    text = response.body.decode("latin-1").split("\n")[0].strip()
    return text if response.status == 200 and text.isprintable() and 0 < len(text) <= 64 else None


async def _request(address: str, method: str, target: str, headers: dict[str, str]) -> Response | None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 80
        with trio.fail_after(RESPONSE_SECONDS):
            async with await trio.open_tcp_stream(host, port) as stream:
                length = {"Content-Length": "0"} if method == "PUT" else {}
                return await send_request(stream, method, target, {"Host": parts.netloc, **length, **headers})
    except (OSError, ValueError, trio.TooSlowError, trio.BrokenResourceError, h11.ProtocolError):
        return None
