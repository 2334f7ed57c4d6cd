"""
Read and write a non-blocking socket, plain or within TLS.

TLS runs on buffers in memory, as in trio.SSLStream, but with less work per record. ssl.SSLSocket would need no buffers.
But while connections used ssl.SSLSocket, requests to the API server failed in the image (`Broken pipe`). A probable
cause is that OpenSSL keeps the errors of sockets in one queue for each thread
(docs/decisions/0023-own-parser-for-the-webhook.md).

Rules:

- Every `receive` lets other tasks run once, and `send_now` never waits.
- OpenSSL gets one record at a time, and other tasks run between two records. In one call, OpenSSL would work through
  all records in its buffer that contain no data of the application, such as KeyUpdate. 20 KiB of such records take
  50 ms, and fill a buffer of the same size with responses.
"""

import socket
import ssl
from contextlib import suppress

import trio

PIECE_BYTES = 65_536
"""Maximum size of one piece, in bytes. Within TLS, a piece is one record of at most 16 KiB."""

RECORD_BYTES = 16_384
"""Number of bytes that are sent at once: the maximum content of one TLS record (RFC 8446, 5.1)."""

MAX_HANDSHAKE_BYTES = 16 * 1024
"""
Maximum number of bytes that a client may send in its handshake. The first message of a browser or of Go has 2 KiB.

The server requests no certificate from the client, so no later message is longer. OpenSSL would accept 128 KiB.
"""

MAX_HANDSHAKE_RECORDS = 16
"""Maximum number of records that a client may send in its handshake. Clients send three to six records."""

MAX_EMPTY_RECORDS = 16
"""Maximum number of consecutive records without data of the application. Go's library has the same limit."""

MAX_PIECES_OF_RECORD = 100
"""Maximum number of pieces in which a record may arrive. A record of 16 KiB has 32 segments of 512 bytes."""

_HEADER_BYTES = 5
"""The length of a record's header: one byte for the type, two for the version, and two for the length."""

_TYPES = range(20, 25)

MAX_RECORD_BYTES = _HEADER_BYTES + 16_384 + 2048
"""The maximum length of a record in TLS 1.2 (RFC 5246, 6.2.3). TLS 1.3 has a lower limit."""


class ExcessError(OSError):
    """An error for a client whose TLS messages need more work or memory than those of honest clients."""


class Stream:
    """A connection of a client, whose socket does not block. A client's error is an OSError."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._records = bytearray()
        """Received bytes that TLS did not get yet."""
        self.pieces = 0
        """The number of pieces so far: each took a turn of the event loop."""
        self._unsent = b""
        """Bytes for the socket that the kernel has not accepted yet."""
        self._rest = memoryview(b"")
        """The part of the response that is not in `_unsent` yet."""

    async def handshake(self, context: ssl.SSLContext) -> None:
        """
        Switch the connection to TLS, in the role of the server.

        Raises ssl.SSLError if the handshake fails, for example because the client does not use TLS.
        Raises ExcessError if the client sends too much.
        """
        tls = context.wrap_bio(self._received, self._encrypted, server_side=True)
        left = MAX_HANDSHAKE_BYTES
        for _ in range(MAX_HANDSHAKE_RECORDS):
            left -= await self._pass_record(left)
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_rest()
            except ssl.SSLError:
                self._push()  # the alert, so that the client learns the reason
                raise
            else:
                await self.send_rest()
                self._tls = tls
                return
        raise ExcessError("the handshake has too many records")

    async def receive(self) -> bytes:
        """
        Return the next piece, or no bytes at the end of the connection.

        Raises ExcessError if the client sends too many records without content.
        """
        if self._tls is None:
            return await self._receive_plain()
        for _ in range(MAX_EMPTY_RECORDS):
            await self._pass_record(MAX_RECORD_BYTES)
            try:
                return self._tls.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
        raise ExcessError("too many records have no content")

    async def _receive_plain(self) -> bytes:
        self.pieces += 1
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._socket.recv(PIECE_BYTES)

    async def _pass_record(self, limit: int) -> int:
        """
        Pass the next record to TLS when it is complete, or the end of the connection. Return the record's length.

        Raises ExcessError if the record is longer than the limit, or arrives in too many pieces.
        """
        records = self._records
        latest = self.pieces + MAX_PIECES_OF_RECORD
        if (size := _record_bytes(records, limit)) is not None:
            self.pieces += 1
            await trio.lowlevel.checkpoint()
        while size is None:
            data = await self._receive_plain()
            if not data:
                self._received.write_eof()
                return 0
            records += data
            size = _record_bytes(records, limit)
            if self.pieces > latest:
                raise ExcessError("the record arrives in too many pieces")
        self._received.write(records[:size])
        del records[:size]
        return size

    def send_now(self, data: bytes | memoryview) -> bool:
        """Send as much as the kernel accepts at once. Return whether everything was sent. If not, call `send_rest`."""
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

        Our TLS close_notify does not wait for that of the client (RFC 8446, 6.1).
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


def _record_bytes(received: bytearray, limit: int) -> int | None:
    """
    Return the length of the record at the start of the bytes, or None if the record is not complete.

    Bytes that are not a record count as one record, because TLS then rejects them with the right alert.

    Raises ExcessError if the record is longer than the limit.
    """
    if len(received) < _HEADER_BYTES:
        return None
    is_record = received[0] in _TYPES and received[1] == 3
    size = _HEADER_BYTES + (received[3] << 8 | received[4]) if is_record else len(received)
    if size > limit:
        raise ExcessError("the record is too long")
    return size if len(received) >= size else None
