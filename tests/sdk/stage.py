"""
Where a case is played: an STS, `irsa-sidecar run` and a client of it, each for itself, and a trap for what goes astray.

The client is told what `irsa-sidecar exec` tells an application; a case takes away or adds what it is about.
"""

import json
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sidecar.authorization import new_secret, write_secret
from sidecar.client_environment import Offer, client_environment
from tests.fakes.tokens import service_account_token
from tests.processes import GUARD_SECONDS, Running, pod_environment, run_daemon
from tests.sdk.build import command
from tests.sdk.catalogue import ROOT, Client
from tests.sdk.sts import REGION, StrictSts
from tests.sdk.tap import Tap

VARIABLE, FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
BOTH = (VARIABLE, FILE)

GUARD_FOR_SDKS_SECONDS = 3 * GUARD_SECONDS
"""No test waits for it; an SDK that hangs ends the test by it."""


Remedy = Mapping[str, str | None]
"""Variables to set, or to take away where they are None."""


class Unmet(AssertionError):  # noqa: N818  (a verdict)
    """What a case wants is not so; the text is what happened instead."""


def must(is_so: bool, instead: str) -> None:  # noqa: FBT001  (reads as a sentence)
    if not is_so:
        raise Unmet(instead)


class Asked:
    """A client's program as a process. It is asked one thing at a time."""

    def __init__(self, process: trio.Process, sts: StrictSts) -> None:
        self._process = process
        self._sts = sts
        self._unread = b""

    async def ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(f"{question}\n".encode())
        with trio.fail_after(GUARD_FOR_SDKS_SECONDS):
            while b"\n" not in self._unread:
                piece = await self._process.stdout.receive_some()
                assert piece, f"the client ended: see its stderr; it said {self._unread!r}"
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def gets(self) -> str:
        """The access key id of the set that the client has now: one that STS gave, whole, and that lives."""
        answer = await self.ask("get")
        must("error" not in answer, f"an error: {answer.get('error')}")
        session = self._sts.session_of(answer["accessKeyId"])
        must(session is not None, f"a set that STS never gave: {answer['accessKeyId']}")
        assert session is not None
        must(session.expires_at.timestamp() > time.time(), "a set that is dead")
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


@dataclass
class Stage:
    """One case's world. `more` comes last in the client's environment."""

    client: Client
    directory: Path
    sts: StrictSts
    trap: Tap
    more: Remedy

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def secret_file(self) -> Path:
        return self.directory / "authorization"

    def rotate_token(self) -> str:
        """A new service account token in place of the one that is there."""
        token = service_account_token(time.time(), jti="rotated")
        draft = self.directory / "token.draft"
        draft.write_text(token)
        draft.replace(self.token_file)
        return token

    def rotate_secret(self) -> None:
        write_secret(str(self.secret_file), new_secret())

    @asynccontextmanager
    async def daemon(self, *, asks_for_secret: bool = True) -> AsyncIterator[Running]:
        environment = pod_environment(self.token_file, self.sts.url)
        if asks_for_secret:
            self.rotate_secret()
            environment["IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"] = str(self.secret_file)
        async with run_daemon(environment) as running:
            yield running

    def variables(self, url: str, *, secret: Collection[str] = ()) -> dict[str, str]:
        """The client's environment: the endpoint's URL, and the secret in these of BOTH."""
        held = self.secret_file.read_text() if secret else ""
        offer = Offer(url, held, str(self.secret_file), REGION)
        environment = client_environment(_without_settings(os.environ), offer)
        for name in set(BOTH) - set(secret):
            del environment[name]
        return environment | {
            "AWS_ENDPOINT_URL_STS": self.sts.url,
            # An SDK that falls through to the metadata service must not look for it outside this machine.
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.trap.url,
            "AWS_METADATA_ENDPOINT": self.trap.url,
        }

    @asynccontextmanager
    async def asking(self, environment: Mapping[str, str]) -> AsyncIterator[Asked]:
        """The client's process with this environment, ended with the case."""
        wanted = {name: value for name, value in {**environment, **self.more}.items() if value is not None}
        with (self.directory / "stderr").open("ab") as stderr:
            process = await trio.lowlevel.open_process(
                command(self.client), stdin=-1, stdout=-1, stderr=stderr, cwd=ROOT, env=wanted
            )
        try:
            yield Asked(process, self.sts)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await trio.aclose_forcefully(stream)


@asynccontextmanager
async def stage_for(client: Client, directory: Path, more: Remedy) -> AsyncIterator[Stage]:
    sts, trap = StrictSts(), Tap()
    async with trio.open_nursery() as nursery:
        await nursery.start(sts.serve)
        await nursery.start(trap.serve)
        yield Stage(client, directory, sts, trap, more)
        nursery.cancel_scope.cancel()


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What this machine says of AWS, of proxies and of coverage is no part of a case."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "COVERAGE_")) and not name.lower().endswith("_proxy")
    }
