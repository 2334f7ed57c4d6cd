"""Run the daemon as a process, read its log lines, and send requests to it."""

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from tests.support.fakes.scripted_sts import Reply, ScriptedSts, good_reply
from tests.support.fakes.tokens import service_account_token

ROLE_ARN = "arn:aws:iam::111122223333:role/cart"
GUARD_SECONDS = 60.0
"""The deadline for a wait. If the daemon hangs, the test fails after this time."""


def hour_long_reply(access_key_id: str = "ASIAFAKE0001") -> Reply:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return good_reply(access_key_id, expiration=expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def pod_environment(token_file: Path, sts_url: str, **more: str) -> dict[str, str]:
    """Return the environment of the daemon's container, without the AWS settings of this machine."""
    if not token_file.exists():
        token_file.write_text(service_account_token(time.time()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_SIDECAR_"))}
    return (
        kept
        | {
            "AWS_ROLE_ARN": ROLE_ARN,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file),
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_STS": sts_url,
            "IRSA_SIDECAR_LISTEN": "127.0.0.1:0",
            "IRSA_SIDECAR_ADMIN_LISTEN": "127.0.0.1:0",
        }
        | more
    )


class Running:
    """
    A process of this program.

    `log` has the log events so far. `errors` has the output on stderr, which is complete when the process has stopped.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.url = self.ready_url = self.imds_url = ""
        self.log: list[dict[str, Any]] = []
        self.errors = ""
        self._more = trio.Event()
        self._read = trio.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Return the address of the credentials endpoint."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    async def logged(self, event: str, *, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for this number of log events with that name and these fields, and return the last of them."""
        wanted = {"event": event, **fields}
        with trio.fail_after(GUARD_SECONDS):
            while True:
                found = [entry for entry in self.log if entry.items() >= wanted.items()]
                if len(found) >= times:
                    return found[times - 1]
                await self._more.wait()

    async def logged_one_of(self, *events: str, **fields: Any) -> dict[str, Any]:
        """Wait for a log event that has one of these names and these fields, and return the first match."""
        with trio.fail_after(GUARD_SECONDS):
            while True:
                for entry in self.log:
                    if entry["event"] in events and entry.items() >= fields.items():
                        return entry
                await self._more.wait()

    async def line_of(self, word: str) -> str:
        """Wait for the line of stderr that begins with `word`, and return the line."""
        with trio.fail_after(GUARD_SECONDS):
            while True:
                for line in self.errors.split("\n")[:-1]:
                    if line.startswith(word):
                        return line
                await self._more.wait()

    async def stop(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the process has exited and its pipes are read completely, and return the exit status."""
        with trio.fail_after(GUARD_SECONDS):
            await self._read.wait()
            return await self.process.wait()

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        with suppress(trio.ClosedResourceError):  # the test ended while a line arrived
            async for piece in self.process.stderr:
                self.errors += piece.decode(errors="replace")  # received bytes may end within a character
                *lines, _ = self.errors.split("\n")
                self.log = [json.loads(line) for line in lines if line.startswith("{")]
                self._more.set()
                self._more = trio.Event()
        self._read.set()


async def _read_urls(running: Running, *, with_imds: bool) -> None:
    assert running.process.stdout is not None
    printed = b""
    while printed.count(b"\n") < 2 + with_imds:
        piece = await running.process.stdout.receive_some()
        assert piece, f"the daemon ended:\n{running.errors}"
        printed += piece
    running.url, running.ready_url, running.imds_url = printed.decode().split("\n")[:3]


@asynccontextmanager
async def started(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Running]:
    """Start the command with this environment. At the end, stop the process if it still runs."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, env=environment, stdin=b"", check=False)
        process = await nursery.start(partial(start, stdout=-1, stderr=-1, capture_stdout=False, capture_stderr=False))
        running = Running(process)
        nursery.start_soon(running.read_log)
        try:
            yield running
        finally:
            nursery.cancel_scope.cancel()
            process.stdout.close()
            process.stderr.close()


def our_program(prelude: str = "") -> list[str]:
    """Return a command that runs this Python code and then `irsa-sidecar`."""
    return [sys.executable, "-c", f"{prelude}\nfrom sidecar.__main__ import main; raise SystemExit(main())"]


@asynccontextmanager
async def run_daemon(environment: Mapping[str, str], *flags: str, prelude: str = "") -> AsyncIterator[Running]:
    """
    Run the daemon with this environment, and yield the process when it listens.

    At the end, the daemon is stopped if it still runs. `prelude` is Python code that the process runs first.
    """
    async with started([*our_program(prelude), "run", *flags], environment) as running:
        with trio.fail_after(GUARD_SECONDS):
            await _read_urls(running, with_imds="IRSA_SIDECAR_IMDS_LISTEN" in environment)
        yield running


def run_to_its_end(environment: Mapping[str, str], *flags: str, prelude: str = "") -> tuple[int, str]:
    """Run a daemon that fails to start, and return its exit status and stderr."""
    command = [*our_program(prelude), "run", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=GUARD_SECONDS)
    return done.returncode, done.stderr


def signalled_before(owner: str, name: str, signal_name: str) -> str:
    """Return a prelude with which the process gets a signal directly before it calls `owner.name`."""
    return f"""
import signal, trio
first = {owner}.{name}
def too_early(*arguments, **keywords):
    signal.raise_signal(signal.{signal_name})
    return first(*arguments, **keywords)
{owner}.{name} = too_early
"""


HOLDS_LONG = """
from functools import partial
from sidecar.serving import limits
limits.Limits = partial(limits.Limits, hold_seconds=60)
"""
"""A prelude with which an early request waits a minute for the credentials, because this machine may be slow."""


def low_on_descriptors(most: int) -> str:
    """Return a prelude that limits the number of files that the process may open."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))"


def resident_kibibytes(pid: int) -> int:
    """Return the process's resident memory (proc(5), VmRSS)."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


class IdleConnections:
    """Silent clients of `address`. `count` is the number of connections so far, and at most `most` of them are open."""

    def __init__(self, address: tuple[str, int], most: int) -> None:
        self._address = address
        self._open: deque[socket.socket] = deque()
        self.most = most
        self.count = 0

    def open(self, more: int) -> None:
        """Open this number of connections, and close the oldest connections above the limit `most`."""
        for _ in range(more):
            self._open.append(socket.create_connection(self._address, timeout=GUARD_SECONDS))
            self.count += 1
            if len(self._open) > self.most:
                self._open.popleft().close()

    def close(self) -> None:
        for client in self._open:
            client.close()


OWN_DESCRIPTORS = 200
"""The number of descriptors that the test process itself needs."""


@contextmanager
def idle_connections(address: tuple[str, int]) -> Iterator[IdleConnections]:
    """Yield clients that may open as many connections as the hard limit of descriptors allows. Close all at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard - OWN_DESCRIPTORS
    opened = IdleConnections(address, most)
    try:
        yield opened
    finally:
        opened.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def scripted_sts(*replies: Reply) -> AsyncIterator[ScriptedSts]:
    async with trio.open_nursery() as nursery:
        sts = ScriptedSts(replies or [hour_long_reply()])
        await nursery.start(sts.serve)
        yield sts
        nursery.cancel_scope.cancel()


async def get(
    url: str, headers: Mapping[str, str] | None = None, *, host: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, Any]]:
    """Send one request as a client does. Return the status, and the body as JSON (or as {"text": …})."""
    parts = urlsplit(url)
    lines = [
        f"{method} {parts.path} HTTP/1.1",
        f"Host: {host or parts.netloc}",
        *(f"{k}: {v}" for k, v in (headers or {}).items()),
    ]
    with trio.fail_after(GUARD_SECONDS):
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
        async with stream:
            await stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n")
            response = b"".join([piece async for piece in stream])
    head, _, body = response.partition(b"\r\n\r\n")
    text = body.decode()
    return int(head.split()[1]), json.loads(text) if text.startswith("{") else {"text": text}


@contextmanager
def full_pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """Yield the read end and the write end of a full pipe. The test may close them."""
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reader, FileIO(write_end, "w") as writer:
        os.set_blocking(write_end, False)
        while writer.write(b"x" * 4096) is not None:
            pass
        os.set_blocking(write_end, True)
        yield reader, writer


async def until_served(url: str) -> dict[str, Any]:
    """Repeat the request until the status is 200, because the daemon may not be ready yet. Return the body."""
    with trio.fail_after(GUARD_SECONDS):
        while True:
            with suppress(OSError):
                status, body = await get(url)
                if status == 200:
                    return body
            await trio.lowlevel.checkpoint()
