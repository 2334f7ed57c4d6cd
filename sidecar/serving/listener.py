"""
Define the behaviour of one listener, which server.py calls.

Rule: `run` does not import this module, because it contains only a type.
"""

from typing import Any, Protocol

from sidecar.clock import Instant
from sidecar.serving import http
from sidecar.serving.connection import Connection
from sidecar.serving.container_credentials import Response
from sidecar.serving.http import Request


class Handler(Protocol):
    """The behaviour of one listener. If a method raises an exception, the server reports it and continues."""

    @property
    def parse(self) -> http.Parse:
        """The parser of requests."""

    def now(self) -> Instant:
        """Return the current time on both clocks."""

    def respond(self, request: Request, now: Instant, sock: Connection, /) -> Response:
        """
        Return the response, quickly and without waiting. If this method raises, the client gets a 500.

        Use the accepted socket only to look up the connection: do not read, write or keep it.
        """

    async def wait(self, response: Response, /) -> None:
        """Wait for the event of a held response. The server sets the deadline, and then calls `respond` again."""

    def observe(self, response: Response, address: Any, /) -> None:
        """Count one response after it was sent, if the client sent anything. The server may call this very often."""

    def report(self, error: Exception, /) -> None:
        """Log an unexpected exception."""
