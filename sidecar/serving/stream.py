"""
Read and write a non-blocking socket, plain or within TLS.

ssl.SSLSocket uses half of the CPU of trio.SSLStream, because OpenSSL reads the socket without copies in Python.

Rule: every `receive` lets other tasks run once, and `send_now` never waits.
"""

import socket
import ssl
from contextlib import suppress

import trio

PIECE_BYTES = 65_536
"""Maximum size of one piece, in bytes. Within TLS, a piece is one record of at most 16 KiB."""


class Stream:
    """A connection of a client, whose socket does not block. A client's error is an OSError."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection

    async def handshake(self, context: ssl.SSLContext) -> None:
        """
        Switch the connection to TLS, in the role of the server.

        Raises ssl.SSLError if the client does not use TLS.
        """
        secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured
        while True:
            await trio.lowlevel.wait_readable(secured)
            try:
                return secured.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(secured)

    async def receive(self) -> bytes:
        """Return the next piece, or no bytes at the end of the connection."""
        if self._has_pending:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._socket)
        while True:
            try:
                return self._socket.recv(PIECE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(self._socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._socket)

    @property
    def _has_pending(self) -> bool:
        """Return whether OpenSSL has decrypted bytes, which the kernel does not report as readable."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def send_now(self, data: bytes | memoryview) -> int:
        """Send the first bytes, and return how many the kernel accepts at once."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send all bytes, and wait for the client as often as necessary."""
        view = memoryview(data)
        while view:
            await trio.lowlevel.wait_writable(self._socket)
            view = view[self.send_now(view) :]

    def end_sending(self) -> None:
        """
        Tell the client that nothing follows. `receive` then returns bytes without decryption.

        TLS's close_notify does not wait for the client's (RFC 8446, 6.1).
        """
        if isinstance(self._socket, ssl.SSLSocket):
            with suppress(OSError, ValueError):  # `unwrap` raises ValueError if there is no TLS any more
                self._socket.unwrap()
        self._socket.shutdown(socket.SHUT_WR)  # SSLSocket then behaves as a plain socket

    def close(self) -> None:
        with suppress(OSError):
            self.end_sending()
            self._socket.recv(PIECE_BYTES)  # unread bytes make the kernel send a reset, which hides TLS's alert
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
