"""
Test the endpoint under attack: smuggling, floods, slow and disconnecting clients, and no free file descriptors.

Each client gets one whole response, or the daemon closes the connection. The daemon never reads a second request from
the bytes of the first request. Honest clients are always served. The process does not exit, and its memory does not
grow by more than a few MiB.
"""

import os
import random
import statistics
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.serving.limits import Limits
from sidecar.serving.server import CLIENT_GONE
from tests.support.processes import (
    Running,
    get,
    idle_connections,
    low_on_descriptors,
    pod_environment,
    resident_kibibytes,
    run_daemon,
    scripted_sts,
)
from tests.support.served import GET, PUT, SECRET, Served, read_to_the_end, settle, status_of

LINE, HOST, REST = GET.partition(b"Host: 127.0.0.1\r\n")
AUTHORIZATION = REST[:-2]
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def framed(*fields: bytes) -> bytes:
    """Return a valid request with these additional header lines, followed by a second request."""
    return LINE + HOST + AUTHORIZATION + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + SMUGGLED


CHUNKED = b"Transfer-Encoding: chunked"

SMUGGLING = {
    "CL.TE": (400, framed(b"Content-Length: 4", CHUNKED)),
    "TE.CL": (400, framed(CHUNKED, b"Content-Length: 4")),
    "TE.TE, the second unknown": (400, framed(CHUNKED, b"Transfer-Encoding: cow")),
    "TE.0: chunks on a GET": (400, framed(CHUNKED).replace(SMUGGLED, b"0\r\n\r\n" + SMUGGLED)),
    "CL.0: a length on a GET": (400, framed(b"Content-Length: %d" % len(SMUGGLED))),
    "two lengths": (400, framed(b"Content-Length: 0", b"Content-Length: 46")),
    "a list of lengths": (400, framed(b"Content-Length: 0, 46")),
    "a signed length": (400, framed(b"Content-Length: +0")),
    "a negative length": (400, framed(b"Content-Length: -1")),
    "a hexadecimal length": (400, framed(b"Content-Length: 0x0")),
    "an octal length": (400, framed(b"Content-Length: 00")),
    "a length with an underscore": (400, framed(b"Content-Length: 4_6")),
    "a length of five thousand digits": (400, framed(b"Content-Length: " + b"9" * 5000)),
    "an empty length": (400, framed(b"Content-Length:")),
    "a length in non-ASCII digits": (400, framed("Content-Length: ٤".encode())),
    "TE in mixed case": (400, framed(b"tRANSFER-eNCODING: cHUNKED")),
    "TE after a tab": (400, framed(b"Transfer-Encoding:\tchunked")),
    "TE with a trailing comma": (400, framed(b"Transfer-Encoding: chunked,")),
    "TE in quotes": (400, framed(b'Transfer-Encoding: "chunked"')),
    "TE identity": (400, framed(b"Transfer-Encoding: identity")),
    "TE with a space before the colon": (400, framed(b"Transfer-Encoding : chunked")),
    "TE with a tab before the colon": (400, framed(b"Transfer-Encoding\t: chunked")),
    "TE with a NUL before the colon": (400, framed(b"Transfer-Encoding\0: chunked")),
    "TE with a vertical tab in its value": (400, framed(b"Transfer-Encoding: \x0bchunked")),
    "TE on a folded line": (400, framed(b"X: y\r\n Transfer-Encoding: chunked")),
    "TE on the line after its name": (400, framed(b"Transfer-Encoding:\r\n chunked")),
    "TE behind a bare LF": (400, framed(b"X: y\nTransfer-Encoding: chunked")),
    "TE behind a bare CR": (400, framed(b"X: y\rTransfer-Encoding: chunked")),
    "TE behind a NUL": (400, framed(b"X: y\0Transfer-Encoding: chunked")),
    "an invalid chunk size": (400, framed(CHUNKED).replace(SMUGGLED, b"zz\r\n\r\n" + SMUGGLED)),
    "a chunk extension with a bare LF": (400, framed(CHUNKED).replace(SMUGGLED, b"0;\nx\r\n\r\n" + SMUGGLED)),
    "a chunk size that overflows": (400, framed(CHUNKED).replace(SMUGGLED, b"f" * 17 + b"\r\n" + SMUGGLED)),
    "a request line that ends in a bare LF": (400, GET.replace(b"1.1\r\n", b"1.1\n") + SMUGGLED),
    "a head that ends in bare LFs": (400, GET[:-4] + b"\n\n" + SMUGGLED),
    "an empty line first": (400, b"\r\n" + GET + SMUGGLED),
    "white space before the first field": (400, LINE + b" " + HOST + REST + SMUGGLED),
    "a field without a name": (400, framed(b": x")),
    "a field without a colon": (400, framed(b"GET /v1/smuggled HTTP/1.1")),
    "two equal Hosts": (400, framed(b"Host: 127.0.0.1")),
    "two Hosts that differ": (400, framed(b"Host: evil.example")),
    "two Authorizations": (400, framed(AUTHORIZATION[:-2])),
    "a target in absolute form": (400, GET.replace(b" /", b" http://127.0.0.1/", 1) + SMUGGLED),
    "a target in absolute form of another host": (400, GET.replace(b" /", b" http://evil.example/", 1) + SMUGGLED),
    "a target in authority form": (400, GET.replace(b"/v1/credentials", b"127.0.0.1:80") + SMUGGLED),
    "a target with a NUL": (400, GET.replace(b"credentials", b"cred\0entials") + SMUGGLED),
    "a target with a fragment": (400, GET.replace(b"credentials", b"credentials#") + SMUGGLED),
    "a target with a CR": (400, GET.replace(b"credentials ", b"credentials\rX ") + SMUGGLED),
    "a second protocol on the line": (400, GET.replace(b"HTTP/1.1", b"HTTP/1.1 HTTP/1.1") + SMUGGLED),
    "HTTP/0.9": (505, b"GET /v1/credentials\r\n" + SMUGGLED),
    "HTTP/1.2": (505, GET.replace(b"HTTP/1.1", b"HTTP/1.2") + SMUGGLED),
    "an HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED),
    "an upgrade to h2c": (200, framed(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA")),
    "a POST with its body": (405, GET.replace(b"GET", b"POST") + SMUGGLED),
    "a HEAD": (405, GET.replace(b"GET", b"HEAD") + SMUGGLED),
    "a method named in a header": (200, framed(b"X-HTTP-Method-Override: POST")),
    "a length of zero": (200, framed(b"Content-Length: 0")),
    "an Expect: 100-continue header": (200, framed(b"Expect: 100-continue")),
    "a path with dot segments": (404, GET.replace(b"credentials", b"credentials/../smuggled") + SMUGGLED),
    "a percent-encoded path": (404, GET.replace(b"credentials", b"%63redentials") + SMUGGLED),
}
"""The requests that smuggle a second request, each with the status of the only response."""


@pytest.mark.parametrize(("status", "shape"), SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_smuggling_request_gets_one_response(
    autojump_clock: MockClock, served: Served, status: int, shape: bytes
) -> None:
    whole = await served.send(shape)
    assert status_of(whole) == status
    assert await served.send(*in_bytes(shape)) == whole
    assert served.statuses == {status: 2}


ASKED = LINE + HOST + AUTHORIZATION
IMDS_SMUGGLING = {
    name: (status, PUT[:-2] + shape.removeprefix(ASKED))
    for name, (status, shape) in SMUGGLING.items()
    if shape.startswith(ASKED) and not name.startswith("two Authorizations")
}
"""The requests of SMUGGLING that add headers to a valid GET, changed so that they add the headers to a valid PUT."""


@pytest.mark.parametrize(("status", "shape"), IMDS_SMUGGLING.values(), ids=IMDS_SMUGGLING.keys())
async def test_smuggling_put_gets_one_response(
    autojump_clock: MockClock, served: Served, status: int, shape: bytes
) -> None:
    for pieces in ([shape], in_bytes(shape)):
        assert status_of(await served.send(*pieces, imds=True)) == status
    assert served.daemon.metrics.imds_requests == {status: 2}
    assert served.statuses == {}


async def test_each_listener_rejects_requests_of_the_other_api(autojump_clock: MockClock, served: Served) -> None:
    assert status_of(await served.send(PUT)) == 405
    assert status_of(await served.send(GET, imds=True)) == 401


def in_bytes(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


SEED = 20270115


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return the request after one to three changes. A change replaces, removes, inserts or doubles a few bytes."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(data))
        end = start + chance.choice([0, 0, 1, 2, 8])
        new = chance.choice(
            [b"", b"\n", b"\r\n", b"\0", b" ", b":", b"\r\n ", data[start:end] * 2, chance.randbytes(2)]
        )
        data = data[:start] + new + data[end:] or b"G"
    return data


async def test_response_is_the_same_if_a_request_arrives_in_parts(autojump_clock: MockClock, served: Served) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    shapes = [mutated(framed(b"Accept: */*") if chance.random() < 0.5 else GET, chance) for _ in range(150)]
    responses: list[set[bytes]] = [set() for _ in shapes]

    async def send(number: int, *pieces: bytes) -> None:
        responses[number].add(await served.send(*pieces, ends=True))

    for number, shape in enumerate(shapes):
        cut = chance.randrange(len(shape) + 1)
        async with trio.open_nursery() as clients:
            clients.start_soon(send, number, shape)
            clients.start_soon(send, number, shape[:cut], shape[cut:])
            clients.start_soon(send, number, *in_bytes(shape))
    different = [shape for shape, given in zip(shapes, responses, strict=True) if len(given) > 1]
    assert different == []
    assert {status_of(answer) for given in responses for answer in given} >= {200, 400, 403, 404, 405}


@pytest.mark.parametrize(
    "flood",
    [b"A: b\r\n", b"Cookie: " + b"c" * 1000 + b"\r\n", b"b", b"\t", b": \r\n", b"\xff"],
    ids=["short fields", "long fields", "one value", "white space", "no names", "bytes that are not text"],
)
async def test_flood_of_headers_is_rejected_at_the_size_limit(
    autojump_clock: MockClock, served: Served, flood: bytes
) -> None:
    async with await served.connect() as client:
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(LINE + HOST + b"A: " * (b":" not in flood) + flood * (32 * 1024 * 1024 // len(flood)))
        assert status_of(await read_to_the_end(client)) in {400, 431}
    assert status_of(await served.send(GET)) == 200


async def test_slow_clients_lose_only_their_own_connections(autojump_clock: MockClock, served: Served) -> None:
    slow = [await served.connect() for _ in range(100)]
    start = trio.current_time()
    with trio.move_on_after(Limits().head_seconds - 0.1):
        for number in range(len(GET)):
            for client in slow:
                await client.send_all(GET[number : number + 1])
            assert status_of(await served.send(GET)) == 200
            await trio.sleep(0.5)
    assert {status_of(await read_to_the_end(client)) for client in slow} == {408}
    assert trio.current_time() - start < Limits().head_seconds + Limits().linger_seconds


async def test_client_may_half_close_within_a_request(autojump_clock: MockClock, served: Served) -> None:
    for end in range(1, len(GET), 5):
        assert status_of(await served.send(GET[:end], ends=True)) == 400
    assert await served.send(ends=True) == b""
    assert status_of(await served.send(GET, ends=True)) == 200


async def test_client_reset_within_a_request_is_counted(autojump_clock: MockClock, served: Served) -> None:
    ends = range(1, len(GET), 5)
    for end in ends:
        client = await served.connect()
        await client.send_all(GET[:end])
        await settle()
        client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
    await settle()
    assert served.statuses == {CLIENT_GONE: len(ends)}
    assert status_of(await served.send(GET)) == 200
    assert served.events == [] or not served.logged("request_failed")


async def test_response_does_not_depend_on_the_wrong_secret(autojump_clock: MockClock, served: Served) -> None:
    guesses = [SECRET[:-1], SECRET + "x", SECRET.upper(), f"x {SECRET}", f"{SECRET}\t{SECRET}", "x" * 8000]
    responses = {await served.send(GET.replace(SECRET.encode(), guess.encode())) for guess in guesses}
    assert len(responses) == 1
    assert status_of(responses.pop()) == 403


async def test_response_to_a_scheme_does_not_depend_on_the_secret(autojump_clock: MockClock, served: Served) -> None:
    guesses = [f"Bearer {SECRET}", "Bearer wrong", f"Token {SECRET[:-1]}"]
    responses = {await served.send(GET.replace(SECRET.encode(), guess.encode())) for guess in guesses}
    assert len(responses) == 1
    assert b"without a scheme" in responses.pop()


@asynccontextmanager
async def daemon_process(tmp_path: Path, prelude: str = "") -> AsyncIterator[Running]:
    """Run a daemon process with credentials. At the end, check that it still serves and logged no error."""
    async with (
        scripted_sts() as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url), prelude=prelude) as running,
    ):
        await running.logged("credentials_refreshed")
        yield running
        assert (await get(running.url))[0] == 200
        assert running.process.poll() is None
        assert [entry for entry in running.log if entry["level"] in {"error", "critical"}] == []
        assert len(sts.requests) == 1


CONNECTIONS = 10_000
GROWTH_KIBIBYTES = 5 * 1024
"""The maximum growth of the resident memory. Half is for 256 waiting tasks, and half for memory that is freed late."""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux has a process's memory in /proc")
async def test_ten_thousand_connections_need_little_memory(tmp_path: Path) -> None:
    async with daemon_process(tmp_path) as running:
        for _ in range(100):
            await get(running.url)
        before = resident_kibibytes(running.process.pid)
        with idle_connections(running.address) as opened:
            while opened.count < CONNECTIONS:
                opened.open(500)
                # After this response, the kernel has accepted the whole batch.
                assert (await get(running.url))[0] == 200
            growth = resident_kibibytes(running.process.pid) - before
            at_once = min(opened.count, opened.most)
        print(f"{opened.count} connections, {at_once} of them open at once: {growth} KiB more resident")
    assert growth < GROWTH_KIBIBYTES


@pytest.mark.parametrize("descriptors", [32, 64])
async def test_process_without_free_descriptors_recovers(tmp_path: Path, descriptors: int) -> None:
    async with daemon_process(tmp_path, prelude=low_on_descriptors(descriptors)) as running:
        with idle_connections(running.address) as opened:
            for _ in range(10):
                opened.open(2 * descriptors)
                assert (await get(running.url))[0] == 200
                assert (await get(running.ready_url))[0] == 200
        assert [(await get(running.url))[0] for _ in range(20)] == [200] * 20


async def test_honest_clients_are_served_beside_idle_connections(tmp_path: Path) -> None:
    took: list[float] = []
    async with daemon_process(tmp_path) as running:
        with idle_connections(running.address) as opened:
            for _ in range(100):
                opened.open(10)
                for _ in range(2):
                    asked = time.perf_counter()
                    assert (await get(running.url))[0] == 200
                    took.append(time.perf_counter() - asked)
            assert opened.count == 1000
    assert len(took) == 200
    print(f"honest p99 during the flood: {statistics.quantiles(took, n=100)[98] * 1e3:.1f} ms")
