"""Test the limits of TLS: of the bytes, records and pieces of a handshake, and of records without content."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from sidecar.serving import http_server
from sidecar.serving import stream as stream_module
from sidecar.serving.connection_budget import Budget
from sidecar.serving.stream import (
    MAX_EMPTY_RECORDS,
    MAX_HANDSHAKE_BYTES,
    MAX_HANDSHAKE_RECORDS,
    MAX_PIECES_OF_RECORD,
    ExcessError,
    Stream,
)
from sidecar.webhook.certificate.issue import renewed
from sidecar.webhook.tls import Tls
from tests.unit.serving.running_http_server import POST, Served, all_of, serving, until

HANDSHAKE, ALERT, DATA = 22, 21, 23


def record(content: bytes, kind: int = HANDSHAKE) -> bytes:
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """Return the first message of a client, without the header of its record."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()[5:]


def long_hello(size: int) -> bytes:
    """Return the start of a first message that announces this size, which OpenSSL would wait for."""
    return b"\x01" + size.to_bytes(3, "big") + b"\x03\x03" + b"a" * (size - 2)


@asynccontextmanager
async def serving_tls() -> AsyncIterator[tuple[Served, Budget]]:
    tls, budget = Tls(), Budget()
    tls.use(renewed(None, ["127.0.0.1"], datetime.now(UTC)).serving)
    async with serving(lambda: tls.context, budget) as served:
        yield served, budget


def in_records(content: bytes, size: int) -> list[bytes]:
    return [record(content[start : start + size]) for start in range(0, len(content), size)]


HOSTILE = {
    "bytes, in records of 4 KiB": in_records(long_hello(120_000), 4096),
    "bytes, in one record": [record(long_hello(MAX_HANDSHAKE_BYTES))],
    "records": in_records(client_hello(), 1),
    "bytes of a record that is not complete": [record(b"a" * MAX_HANDSHAKE_BYTES)[:10]],
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_long_handshake_is_closed_at_once(kind: str, autojump_clock: MockClock) -> None:
    """Check that the clock did not reach a deadline, and that the server still responds to others."""
    async with serving_tls() as (served, budget), await served.connect() as stream:
        began_at = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for each in HOSTILE[kind]:
                await stream.send_all(each)
        with suppress(trio.BrokenResourceError):
            await all_of(stream)
        assert trio.current_time() - began_at < 1
        assert budget.closed == {"tls": 1}
        await check(served)
        assert served.reported == []


async def test_handshake_in_too_many_pieces_is_closed(autojump_clock: MockClock) -> None:
    async with serving_tls() as (served, budget), await served.connect() as stream:
        sent = 0
        with suppress(trio.BrokenResourceError):
            for byte in record(client_hello()):
                await stream.send_all(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
                sent += 1
        assert sent <= MAX_PIECES_OF_RECORD + 10
        assert budget.closed == {"tls": 1}


async def check(served: Served) -> None:
    async with await served.connect() as plain:
        stream = trio.SSLStream(plain, client_context(), server_hostname="127.0.0.1", https_compatible=True)
        await stream.send_all(POST)
        await until(stream, b"POST /inject 3")


@pytest.mark.parametrize("size", [200, 1])
async def test_handshake_in_a_few_records_is_accepted(size: int) -> None:
    """The first message of the client is longer than one record of 200 bytes, or arrives in two parts."""
    async with serving_tls() as (served, budget):
        plain = socket.create_connection(("127.0.0.1", served.port))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        plain.settimeout(0)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(plain)) as stream:
            for each in in_records(hello[5:], size) if size > 1 else (hello[:3], hello[3:]):
                await stream.send_all(each)
                await trio.testing.wait_all_tasks_blocked()
            while True:
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                incoming.write(await stream.receive_some())
            tls.write(POST)
            await stream.send_all(outgoing.read())  # the end of the handshake and the request in one piece
            while True:
                with suppress(ssl.SSLWantReadError):
                    assert tls.read().startswith(b"HTTP/1.1 200")
                    break
                incoming.write(await stream.receive_some())
        assert budget.closed == {}


async def test_tls_request_in_too_many_pieces_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record arrives in 50 pieces, and the pieces of all records together exceed the limit of the request."""
    monkeypatch.setattr(http_server, "CLOSE_SECONDS", 0.0)
    async with serving_tls() as (served, _), await served.connect() as stream:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await stream.send_all(outgoing.read())
                incoming.write(await stream.receive_some())
        await stream.send_all(outgoing.read())
        tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
        await stream.send_all(outgoing.read())
        sent = 0
        with suppress(trio.BrokenResourceError):
            for _ in range(20):
                tls.write(b"a" * 30)
                for byte in outgoing.read():
                    await stream.send_all(bytes([byte]))
                    await trio.testing.wait_all_tasks_blocked()
                    sent += 1
        assert sent < 200


class Records:
    """A fake of `ssl` for records with this content. It replaces the context and also the TLS object."""

    def __init__(self, contents: Iterator[bytes]) -> None:
        self._contents = contents
        self.sizes: list[int] = []
        """The number of bytes that OpenSSL could work through in each call."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, *_: object, **__: object) -> Any:
        self._incoming = incoming
        return self

    def do_handshake(self) -> None:
        self._incoming.read()

    def read(self, _limit: int) -> bytes:
        self.sizes.append(len(self._incoming.read()))
        if content := next(self._contents):
            return content
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        pass


async def received_from(records: Records, *sent: bytes) -> Stream:
    """Return the stream after the handshake. The client has sent these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.settimeout(0)
    stream = Stream(ours)
    theirs.sendall(b"".join(sent))
    with theirs:
        context: Any = records
        await stream.handshake(context)
    return stream


UPDATE = record(b"a" * 22, DATA)
"""A record with the length of a KeyUpdate record."""


async def test_records_without_content_end_the_connection() -> None:
    records = Records(iter([b""] * 1000))
    stream = await received_from(records, record(b"finished"), UPDATE * 1000)
    with pytest.raises(ExcessError):
        await stream.receive()
    assert records.sizes == [len(UPDATE)] * MAX_EMPTY_RECORDS
    stream.close()


async def test_records_without_content_between_data_are_ignored() -> None:
    records = Records(iter([b"", b"a", b"", b"", b"b"]))
    stream = await received_from(records, record(b"finished") + UPDATE * 5)
    before = stream.pieces
    assert [await stream.receive(), await stream.receive()] == [b"a", b"b"]
    assert stream.pieces - before == 5
    stream.close()


async def test_other_tasks_run_between_two_records() -> None:
    records = Records(iter([b""] * 10 + [b"a"]))
    stream = await received_from(records, record(b"finished") + UPDATE * 11)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await stream.receive()
        nursery.cancel_scope.cancel()
    assert turns >= 10
    stream.close()


def test_limits_leave_room_for_honest_clients() -> None:
    """Go and OpenSSL send a handshake of less than 2 KiB, in at most six records."""
    assert len(client_hello()) * 4 < MAX_HANDSHAKE_BYTES
    assert MAX_HANDSHAKE_RECORDS > 6
    assert stream_module.MAX_RECORD_BYTES >= 5 + 2**14 + 2048
