"""Run a fake daemon on a socket, and run the command `credentials` in the test's process."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from sidecar import cli
from sidecar.serving import http
from sidecar.serving.container_credentials import credentials_response, respond
from sidecar.serving.hosts import LOOPBACK
from sidecar.serving.http import Request
from tests.unit.serving.test_container_credentials import CREDENTIALS, NOW, SNAPSHOT, Role, no_lookup

REPORTING = CREDENTIALS._replace(access_key_id="ASIAREPORTING", role_arn="arn:aws:iam::111122223333:role/reporting")
OPEN = Role(authorization=None)
PATHS = {
    b"/v1/credentials": OPEN,
    b"/v1/credentials/reporting": Role(
        "reporting",
        SNAPSHOT._replace(credentials=REPORTING, response=credentials_response(REPORTING)),
        authorization=None,
    ),
}


class FakeDaemon:
    """A daemon that sends the endpoint's responses, or `raw` instead. `requests` lists the received requests."""

    def __init__(self, routes: Mapping[bytes, Role] = PATHS, raw: bytes | None = None) -> None:
        self.routes = dict(routes)
        self.raw = raw
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.requests.append(client.recv(65_536))
                client.sendall(self._response(self.requests[-1]) if self.raw is None else self.raw)

    def _response(self, data: bytes) -> bytes:
        request = http.parse(data)
        assert isinstance(request, Request)
        return respond(request, self.routes, LOOPBACK, NOW, no_lookup).content

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def running_daemon(routes: Mapping[bytes, Role] = PATHS, raw: bytes | None = None) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(routes, raw)
    thread = threading.Thread(target=daemon.serve)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.close()
        thread.join()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """
    Run the command, and return its exit status, stdout and stderr.

    stderr has at most one message: one line, or one line for each setting.
    """
    status = cli.main(["credentials", *arguments])
    shown = capsys.readouterr()
    assert shown.err.count("irsa-sidecar: ") == (status != 0)
    assert shown.err.count("\n") == (status != 0) or "settings are missing or wrong:\n" in shown.err
    return status, shown.out, shown.err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def unused_address() -> str:
    """Return an address on which no process listens."""
    return "127.0.0.1:1"
