"""
Test faults of the network path to STS, one test for each fault.

The real STS client gets a real connection error on loopback. A refresher with fake clocks then gets the same error.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import NextStep
from sidecar.sts.client import ATTEMPT_SECONDS, CONNECT_SECONDS, StsClient
from tests.faults.retries import HOUR_SECONDS, LAST_MINUTES, retries_after
from tests.support.exchanges import (
    REQUEST,
    STS_HOST,
    TOKEN,
    Authority,
    Resolver,
    exchange,
    failure,
    failure_of,
    scripted,
)
from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply
from tests.support.processes import GUARD_SECONDS
from tests.support.scene import Scene

pytestmark = pytest.mark.usefixtures("no_proxies")


async def test_refused_or_broken_connection_is_retried(autojump_clock: MockClock, scene: Scene) -> None:
    """
    The connection to STS is refused or closed early.

    The daemon retries, rejects every partial response, and serves its credentials.
    """
    whole = len(good_reply().wire)
    for cut_after in (*range(0, whole, 97), whole - 1):
        for is_reset in (False, True):
            error = await failure_of(Reply(200, good_reply().body, cut_after=cut_after, reset=is_reset))
            assert (error.code, error.next_step) == ("Unreachable", NextStep.RETRY)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = await failure(f"http://127.0.0.1:{port}/")
    assert "Connection refused" in error.message
    assert max(await retries_after(scene, error, seconds=600, remaining_seconds=LAST_MINUTES)) <= 60


async def test_attempt_without_a_connection_ends_at_its_deadline(autojump_clock: MockClock, scene: Scene) -> None:
    """
    Packets to STS are dropped, the name of STS is unknown, or the resolver hangs.

    An attempt ends within 3 s if no connection is made, and within 10 s if no response arrives.
    """
    with _black_hole() as url:
        assert await _seconds_to_failure(url, "Timeout") == pytest.approx(CONNECT_SECONDS)
    with _hanging_resolver():
        assert await _seconds_to_failure(f"https://{STS_HOST}/", "Timeout") == pytest.approx(CONNECT_SECONDS)
    async with scripted(Reply(delay_seconds=HOUR_SECONDS)) as silent:
        assert await _seconds_to_failure(silent.url, "Timeout") == pytest.approx(ATTEMPT_SECONDS)
    trio.socket.set_custom_hostname_resolver(Resolver())
    assert await _seconds_to_failure(f"https://{STS_HOST}/", "Unreachable") == 0
    scene.sts.latency_seconds = CONNECT_SECONDS
    error = await failure(f"https://{STS_HOST}/")
    assert max(await retries_after(scene, error, seconds=600, remaining_seconds=LAST_MINUTES)) <= 60 + CONNECT_SECONDS


async def _seconds_to_failure(url: str, code: str) -> float:
    start = trio.current_time()
    assert (await failure(url)).code == code
    return trio.current_time() - start


@contextmanager
def _black_hole() -> Iterator[str]:
    """Listen on a port with a full queue, so that the kernel drops new connections like a firewall (listen(2))."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        address = server.getsockname()
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/"


@contextmanager
def _hanging_resolver() -> Iterator[None]:
    """Replace the system's resolver with a function that blocks its thread and cannot be cancelled."""
    released, getaddrinfo = threading.Event(), socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        # Trio calls this function in the main thread to check whether the host is an address.
        if threading.current_thread() is not threading.main_thread():
            released.wait(GUARD_SECONDS)
        return getaddrinfo(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        try:
            yield
        finally:
            released.set()


async def test_slow_response_is_accepted_before_the_deadline(autojump_clock: MockClock) -> None:
    """
    The response of STS arrives slowly or in pieces.

    One deadline covers the whole attempt. The daemon accepts a slow response that is complete before the deadline.
    """
    whole = good_reply()
    async with scripted(Reply(200, whole.body, drip_seconds=0.001), whole) as sts:
        assert await exchange(sts.url) == await exchange(sts.url)
    for slow in (whole, error_reply(503, "ServiceUnavailable"), Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50)):
        async with scripted(Reply(raw=slow.wire, drip_seconds=0.5)) as sts:
            assert await _seconds_to_failure(sts.url, "Timeout") == pytest.approx(ATTEMPT_SECONDS)


async def test_sts_with_an_invalid_certificate_gets_no_token(
    autojump_clock: MockClock, scene: Scene, authority: Authority
) -> None:
    """
    The certificate of STS has another name, is expired, or is not trusted.

    STS gets no token. The error shows the failed check, and the setting or the clock to correct.
    """
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    now = datetime.now(UTC)
    wrong = {
        ("Hostname mismatch", "AWS_ENDPOINT_URL_STS"): (authority.server("sts.example"), authority.bundle),
        ("certificate has expired", "clock"): (authority.server(STS_HOST, now - timedelta(days=1)), authority.bundle),
        ("unable to get local issuer certificate", "AWS_CA_BUNDLE"): (authority.server(), None),
    }
    errors = []
    for (reason, setting), (server, bundle) in wrong.items():
        async with scripted(tls=server, host=STS_HOST) as sts:
            error = await failure(sts.url, ca_bundle=bundle)
        assert error.code == "Tls"
        assert reason in error.message
        assert setting in error.message
        assert sts.requests == []
        errors.append(error)
    assert max(await retries_after(scene, errors[-1], seconds=600, remaining_seconds=LAST_MINUTES)) <= 60


async def test_replaced_ca_bundle_is_used_by_the_next_exchange(tmp_path: Path) -> None:
    """
    The CA bundle is replaced while the daemon runs.

    The next exchange uses the changed AWS_CA_BUNDLE. If the new bundle is unusable, the daemon uses the old bundle.
    """
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    (tmp_path / "new").mkdir()
    old, new = Authority(tmp_path), Authority(tmp_path / "new")
    async with StsClient(f"https://{STS_HOST}/", ca_bundle=old.bundle) as client:
        for content, server in [(None, old), (b"", old), (b"half", old), (Path(new.bundle).read_bytes(), new)]:
            if content is not None:
                Path(old.bundle).write_bytes(content)
            async with scripted(tls=server.server(), host=STS_HOST) as sts:
                client.url = sts.url
                await client.exchange(REQUEST, TOKEN)
            assert len(sts.requests) == 1
