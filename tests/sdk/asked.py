"""
A client's program as a process, and what is wanted of its answers.

What it gets is held against what STS gave: whole, and alive.
"""

import json
import time
from pathlib import Path
from typing import Any

import trio

from tests.sdk.sts import StrictSts
from tests.support.processes import GUARD_SECONDS

GUARD_FOR_SDKS_SECONDS = 3 * GUARD_SECONDS
"""No test waits for it; an SDK that hangs ends the test by it."""


class Unmet(AssertionError):  # noqa: N818  (a verdict)
    """What a case wants is not so; the text is what happened instead."""


def must(is_so: bool, instead: str) -> None:  # noqa: FBT001  (reads as a sentence)
    if not is_so:
        raise Unmet(instead)


class Asked:
    """It is asked one thing at a time."""

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
        """The access key id of the set that the client has: one that STS gave, whole, and alive when it was asked."""
        asked_at = time.time()
        answer = await self.ask("get")
        must("error" not in answer, f"an error: {answer.get('error')}")
        session = self._sts.session_of(answer["accessKeyId"])
        if session is None:
            raise Unmet(f"a set that STS never gave: {answer['accessKeyId']}")
        must(session.expires_at.timestamp() > asked_at, "a set that is dead")
        must(answer["sessionToken"] == session.session_token, "the session token of another set")
        must(answer["secretAccessKey"] in {None, session.secret_access_key}, "the secret key of another set")
        return session.access_key_id

    async def signs(self) -> str:
        """The access key id that the client signs with, once STS took the signature."""
        answer = await self.ask("whoami")
        must("error" not in answer, f"an error: {answer.get('error')}")
        caller = self._sts.callers[-1]
        must(answer["arn"] == caller.arn, f"another ARN: {answer['arn']}")
        return caller.access_key_id

    async def error(self) -> str:
        """What a person reads who asks for credentials; that there is something is part of the case."""
        answer = await self.ask("get")
        must("error" in answer, "credentials where there are none")
        return str(answer["error"])
