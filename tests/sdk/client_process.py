"""Run a client's program as a process, and check its responses against the credentials that STS returned."""

import json
import time
from pathlib import Path
from typing import Any

import trio

from tests.sdk.sts import StrictSts
from tests.support.processes import GUARD_SECONDS

GUARD_FOR_SDKS_SECONDS = 3 * GUARD_SECONDS
"""The deadline for a response. If the SDK hangs, the test fails after this time."""


class Unmet(AssertionError):  # noqa: N818  (a verdict)
    """A requirement of a case that a client failed. The text describes the actual result."""


def must(is_so: bool, instead: str) -> None:  # noqa: FBT001  (reads as a sentence)
    if not is_so:
        raise Unmet(instead)


class ClientProcess:
    """A running client's program, which handles one request at a time."""

    def __init__(self, process: trio.Process, stderr: Path, sts: StrictSts) -> None:
        self._process = process
        self._stderr = stderr
        self._sts = sts
        self._unread = b""

    async def request(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(f"{name}\n".encode())
        with trio.fail_after(GUARD_FOR_SDKS_SECONDS):
            while b"\n" not in self._unread:
                piece = await self._process.stdout.receive_some()
                assert piece, f"the client ended:\n{self._stderr.read_text()}"
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        response: dict[str, Any] = json.loads(line)
        return response

    async def gets(self) -> str:
        """Return the access key id of the client's credentials. They must be complete, from STS, and valid."""
        requested_at = time.time()
        response = await self.request("get")
        must("error" not in response, f"an error: {response.get('error')}")
        session = self._sts.session_of(response["accessKeyId"])
        if session is None:
            raise Unmet(f"credentials that STS never returned: {response['accessKeyId']}")
        must(session.expires_at.timestamp() > requested_at, "expired credentials")
        must(response["sessionToken"] == session.session_token, "another session token")
        must(response["secretAccessKey"] in {None, session.secret_access_key}, "another secret key")
        return session.access_key_id

    async def signs(self) -> str:
        """Return the access key id of the client's signature, after STS accepted it."""
        response = await self.request("whoami")
        must("error" not in response, f"an error: {response.get('error')}")
        caller = self._sts.callers[-1]
        must(response["arn"] == caller.arn, f"another ARN: {response['arn']}")
        return caller.access_key_id

    async def error(self) -> str:
        """Return the error text of a failed request. If the request succeeds, the case fails."""
        response = await self.request("get")
        must("error" in response, "credentials instead of an error")
        return str(response["error"])
