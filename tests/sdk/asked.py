"""Run a client's program as a process, and check its responses against the credentials that STS returned."""

import json
import time
from pathlib import Path
from typing import Any

import trio

from tests.sdk.sts import StrictSts
from tests.support.processes import GUARD_SECONDS

GUARD_FOR_SDKS_SECONDS = 3 * GUARD_SECONDS
"""Deadline for a response. An SDK that hangs fails the test after it."""


class Unmet(AssertionError):  # noqa: N818  (a verdict)
    """A failed requirement of a case. The text is what happened instead."""


def must(is_so: bool, instead: str) -> None:  # noqa: FBT001  (reads as a sentence)
    if not is_so:
        raise Unmet(instead)


class Asked:
    """A running client, which handles one request at a time."""

    def __init__(self, process: trio.Process, stderr: Path, sts: StrictSts) -> None:
        self._process = process
        self._stderr = stderr
        self._sts = sts
        self._unread = b""

    async def ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(f"{question}\n".encode())
        with trio.fail_after(GUARD_FOR_SDKS_SECONDS):
            while b"\n" not in self._unread:
                piece = await self._process.stdout.receive_some()
                assert piece, f"the client ended:\n{self._stderr.read_text()}"
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def gets(self) -> str:
        """Return the access key id of the client's credentials. They must be whole, from STS, and valid."""
        asked_at = time.time()
        answer = await self.ask("get")
        must("error" not in answer, f"an error: {answer.get('error')}")
        session = self._sts.session_of(answer["accessKeyId"])
        if session is None:
            raise Unmet(f"credentials that STS never returned: {answer['accessKeyId']}")
        must(session.expires_at.timestamp() > asked_at, "expired credentials")
        must(answer["sessionToken"] == session.session_token, "another session token")
        must(answer["secretAccessKey"] in {None, session.secret_access_key}, "another secret key")
        return session.access_key_id

    async def signs(self) -> str:
        """Return the access key id of the client's signature, after STS accepted it."""
        answer = await self.ask("whoami")
        must("error" not in answer, f"an error: {answer.get('error')}")
        caller = self._sts.callers[-1]
        must(answer["arn"] == caller.arn, f"another ARN: {answer['arn']}")
        return caller.access_key_id

    async def error(self) -> str:
        """Return the text that a person reads after a failed request. Without an error the case fails."""
        answer = await self.ask("get")
        must("error" in answer, "credentials where there are none")
        return str(answer["error"])
