"""
The node's metadata service, asked as an SDK would, for a second.

The address is an argument, and nothing but it is asked. No credentials are fetched: only the role's name.
"""

from urllib.parse import urlsplit

import h11
import trio

from sidecar.doctor.checks.metadata import MetadataFacts
from sidecar.doctor.probes.conversation import Answer, ask

ANSWER_SECONDS = 1.0

_ROLE = "/latest/meta-data/iam/security-credentials/"


async def look(address: str) -> MetadataFacts:
    """Raises nothing."""
    roles: dict[str, str | None] = {}

    async def version_2() -> None:
        token = await _ask(address, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        if token is not None and token.status == 200:
            roles["v2"] = await _role(address, {"X-aws-ec2-metadata-token": token.body.decode("latin-1").strip()})

    async def version_1() -> None:
        answer = await _ask(address, "GET", _ROLE, {})
        if answer is not None and answer.status in {200, 404}:
            roles["v1"] = _name(answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(version_2)
        nursery.start_soon(version_1)
    names = [name for name in roles.values() if name is not None]
    return MetadataFacts(address, answers_v2="v2" in roles, answers_v1="v1" in roles, role=names[0] if names else None)


async def _role(address: str, headers: dict[str, str]) -> str | None:
    answer = await _ask(address, "GET", _ROLE, headers)
    return None if answer is None else _name(answer)


def _name(answer: Answer) -> str | None:
    """The node's role; "" if it has none (404)."""
    if answer.status == 404:
        return ""
    text = answer.body.decode("latin-1").split("\n")[0].strip()
    return text if answer.status == 200 and text.isprintable() and 0 < len(text) <= 64 else None


async def _ask(address: str, method: str, target: str, headers: dict[str, str]) -> Answer | None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 80
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_tcp_stream(host, port) as stream:
                length = {"Content-Length": "0"} if method == "PUT" else {}
                return await ask(stream, method, target, {"Host": parts.netloc, **length, **headers})
    except (OSError, ValueError, trio.TooSlowError, trio.BrokenResourceError, h11.ProtocolError):
        return None
