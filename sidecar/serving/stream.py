"""
Read and write a non-blocking socket, plain or within TLS.

TLS runs on buffers in memory, as in trio.SSLStream, but with less work per record. ssl.SSLSocket would need no buffers.
But while connections used ssl.SSLSocket, requests to the API server failed in the image (`Broken pipe`). A probable
cause is that OpenSSL keeps the errors of sockets in one queue for each thread
(docs/decisions/0023-own-parser-for-the-webhook.md).

Rule: every `receive` lets other tasks run once, and `send_now` never waits.
"""

import socket
import ssl
from contextlib import suppress

import trio

PIECE_BYTES = 65_536
"""Maximum size of one piece, in bytes. Within TLS, a piece is one record of at most 16 KiB."""

RECORD_BYTES = 16_384
"""Number of bytes that are sent at once: the maximum content of one TLS record (RFC 8446, 5.1)."""


class Stream:
    """A connection of a client, whose socket does not block. A client's error is an OSError."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._unsent = b""
        """Bytes for the socket that the kernel has not accepted yet."""
        self._rest = memoryview(b"")
        """The part of the response that is not in `_unsent` yet."""

    async def handshake(self, context: ssl.SSLContext) -> None:
        """
        Switch the connection to TLS, in the role of the server.

        Raises ssl.SSLError if the handshake fails, for example because the client does not use TLS.
        """
        tls = context.wrap_bio(self._received, self._encrypted, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.send_rest()
                await self._fill()
            except ssl.SSLError:
                self._push()  # the alert, so that the client learns the reason
                raise
        await self.send_rest()
        self._tls = tls

    async def receive(self) -> bytes:
        """Return the next piece, or no bytes at the end of the connection."""
        if self._tls is None:
            return await self._receive_plain()
        has_waited = False
        while True:
            try:
                data = self._tls.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._fill()
                has_waited = True
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                if not has_waited:
                    await trio.lowlevel.checkpoint()
                return data

    async def _receive_plain(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._socket.recv(PIECE_BYTES)

    async def _fill(self) -> None:
        """Wait for bytes from the client, and pass them to TLS."""
        data = await self._receive_plain()
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()

    def send_now(self, data: bytes | memoryview) -> bool:
        """Send as much as the kernel accepts at once. Return whether that is all; otherwise call `send_rest`."""
        self._rest = memoryview(data)
        return self._push()

    async def send_rest(self) -> None:
        """Send the rest of the data of `send_now`, and wait for the client as often as necessary."""
        while not self._push():
            await trio.lowlevel.wait_writable(self._socket)

    def _push(self) -> bool:
        """Send until the kernel accepts no more. Return whether nothing is left."""
        while self._next():
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def _next(self) -> bool:
        """Put the next bytes for the socket into `_unsent` if it is empty. Return whether there are any."""
        if not self._unsent and not self._encrypted.pending and self._rest:
            piece, self._rest = self._rest[:RECORD_BYTES], self._rest[RECORD_BYTES:]
            if self._tls is None:
                self._unsent = bytes(piece)
            else:
                self._tls.write(piece)
        if not self._unsent and self._encrypted.pending:
            self._unsent = self._encrypted.read()
        return bool(self._unsent)

    def end_sending(self) -> None:
        """
        Signal to the client that nothing follows. `receive` then returns bytes without decryption.

        TLS's close_notify does not wait for the client's (RFC 8446, 6.1).
        """
        if self._tls is not None:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._push()
            self._tls = None
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self.end_sending()
            self._socket.recv(PIECE_BYTES)  # unread bytes make the kernel send a reset, which hides TLS's alert
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
