"""
Attack `irsa-sidecar webhook`, as one of the processes of `python -m benchmarks.webhook_attack`.

    python -m benchmarks.webhook_attackers NAME PORT ADMIN_PORT SECONDS

Each attacker uses only what every client in the cluster can do: connect to both ports, and create Pods.
"""

import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from tests.unit.webhook.cluster import admission_review

HOST = "127.0.0.1"
WAIT_SECONDS = 60.0

UNKNOWN = "unknown"
"""The namespace whose ServiceAccounts the API server returns slowly."""


class Target(NamedTuple):
    """The ports of the webhook."""

    port: int
    admin_port: int


def one_byte_chunks(target: Target, until: float) -> None:
    """Send chunks of one byte on 40 connections to each port, as fast as possible."""
    head = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    pushers = [lambda: secured(target.port)] * 40 + [lambda: plain(target.admin_port)] * 40
    push(pushers, head, b"1\r\na\r\n" * 8_000, until)


def unfinished_bodies(target: Target, until: float) -> None:
    """Keep 400 connections to each port open with 32 kB of an unfinished body, and also send large reviews."""
    for count in (1_300_000, 140_000):
        threading.Thread(target=send_reviews, args=(target, until, empty_lists(count)), daemon=True).start()
    head = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n"
    pushers = [lambda: secured(target.port)] * 400 + [lambda: plain(target.admin_port)] * 400
    push(pushers, head, b"[" * 32_000, until, once=True)


def hostile_annotations(target: Target, until: float) -> None:
    """Create Pods with a hostile annotation from 8 clients."""
    bodies = [hostile_review(200, 59_000), hostile_review(8, 8_000)] * 4
    threads = [threading.Thread(target=send_reviews, args=(target, until, body)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def unfinished_handshakes(target: Target, until: float) -> None:
    """Send the first message of a handshake on new connections, from 8 threads."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
    hello = outgoing.read()
    threads = [threading.Thread(target=begin_handshakes, args=(target, until, hello)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def begin_handshakes(target: Target, until: float, hello: bytes) -> None:
    kept: deque[socket.socket] = deque(maxlen=190)
    while time.monotonic() < until:
        with suppress(OSError):
            kept.append(plain(target.port))
            kept[-1].sendall(hello)


def long_handshakes(target: Target, until: float) -> None:
    """Keep 600 connections open, each with 120 kB of a first message that is not complete."""
    message = b"\x01" + (130_000).to_bytes(3, "big") + b"\x03\x03" + b"a" * 120_000
    starts = range(0, len(message), 16_000)
    records = b"".join(record(message[start : start + 16_000]) for start in starts)
    push([lambda: plain(target.port)] * 600, b"", records, until, once=True)


def record(content: bytes) -> bytes:
    """Return a TLS record of a handshake."""
    return b"\x16\x03\x01" + len(content).to_bytes(2, "big") + content


def kept_places(target: Target, until: float) -> None:
    """Keep 300 connections to each port, each with a completed request and another one that arrives slowly."""
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    openers = [lambda: secured(target.port)] * 300 + [lambda: plain(target.admin_port)] * 300
    push(openers, request + b"\r\n" + request + b"A: ", b"a", until, pause=1.0)


def unknown_accounts(target: Target, until: float) -> None:
    """Send reviews of ServiceAccounts that the webhook must request, from 200 threads, with 60 KB each."""
    document = json.loads(empty_lists(19_000))
    threads = []
    for number in range(200):
        document["request"]["namespace"] = UNKNOWN
        document["request"]["object"]["spec"]["serviceAccountName"] = f"a{number}"
        body = json.dumps(document, separators=(",", ":")).encode()
        threads.append(threading.Thread(target=send_reviews, args=(target, until, body)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def many_headers(target: Target, until: float) -> None:
    """Send heads of 4,000 headers on 40 connections to each port, as fast as possible."""
    openers = [lambda: secured(target.port)] * 40 + [lambda: plain(target.admin_port)] * 40
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 4_000 + b"\r\n"
    push(openers, b"", head, until)


def many_containers(target: Target, until: float) -> None:
    """Create Pods of 480 containers from 40 clients."""
    document = review_with({})
    document["request"]["object"]["spec"]["containers"] = [{"name": f"c{n}", "image": "i"} for n in range(480)]
    body = json.dumps(document).encode()
    threads = [threading.Thread(target=send_reviews, args=(target, until, body)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ATTACKERS: dict[str, Callable[[Target, float], None]] = {
    "chunks": one_byte_chunks,
    "annotations": hostile_annotations,
    "bodies": unfinished_bodies,
    "handshakes": unfinished_handshakes,
    "hellos": long_handshakes,
    "places": kept_places,
    "unknown": unknown_accounts,
    "headers": many_headers,
    "containers": many_containers,
}


def push(
    openers: list[Callable[[], Any]],
    head: bytes,
    piece: bytes,
    until: float,
    *,
    once: bool = False,
    pause: float = 0.02,
) -> None:
    """Keep a connection open for each opener, and write as many bytes as the kernel accepts."""
    connections: dict[int, Any] = {}
    while time.monotonic() < until:
        for number, opener in enumerate(openers):
            try:
                if number not in connections:
                    connections[number] = opener()
                    connections[number].sendall(head)
                    connections[number].settimeout(0.01)
                    if once:
                        connections[number].sendall(piece)
                elif not once:
                    connections[number].send(piece)
            except TimeoutError:
                continue
            except OSError:
                connections.pop(number, None)
        time.sleep(pause)


def send_reviews(target: Target, until: float, body: bytes) -> None:
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):
            post(target.port, body)


def hostile_review(depth: int, length: int) -> bytes:
    """Return a review with deeply nested flow lists, in windows shorter than PyYAML's longest simple key."""
    window = "[" * depth + "a" + "]" * depth + ","
    text = window * (length // len(window))
    return json.dumps(review_with({"irsa-sidecar.io/roles": f"[{text}a]"})).encode()


def empty_lists(count: int) -> bytes:
    document = review_with({})
    document["request"]["object"]["spec"]["padding"] = "PADDING"
    return json.dumps(document).encode().replace(b'"PADDING"', b"[" + b"[]," * count + b"[]]")


def review_with(annotations: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = admission_review()
    document["request"]["object"]["metadata"]["annotations"] = annotations
    return document


def plain(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=5)


def secured(port: int) -> ssl.SSLSocket:
    return trusting().wrap_socket(plain(port), server_hostname=HOST)


def trusting() -> ssl.SSLContext:
    """Return the TLS context of a client that verifies no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def post(port: int, body: bytes, timeout: float = WAIT_SECONDS) -> int:
    """Send one review on a new connection. Returns the status."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(HOST, port, context=context, timeout=timeout)
    try:
        connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def main() -> None:
    name, port, admin_port, seconds = sys.argv[1:]
    ATTACKERS[name](Target(int(port), int(admin_port)), time.monotonic() + float(seconds))


if __name__ == "__main__":
    main()
