"""Test reviews that are slow, large or hostile: they do not delay other reviews, and their number is limited."""

import json
import socket
import struct
import threading
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing

from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.serving.http_message import Request
from sidecar.serving.http_server import BACKLOG
from sidecar.webhook.review import Review, ReviewResult, decide
from sidecar.webhook.run import open_listeners
from sidecar.webhook.service import (
    LARGE_BYTES,
    LONG_CONTAINERS,
    LONG_PARTS,
    MAX_LARGE_WAITING,
    MAX_LONG_WAITING_OF_ONE,
    QUICK_BYTES,
)
from tests.support.fakes.api_server import FakeApiServer
from tests.support.processes import GUARD_SECONDS
from tests.unit.injection.pods import ARN, pod
from tests.unit.webhook.cluster import (
    OPTIONS,
    admission_review,
    until,
    webhook,
)


async def test_one_large_review_is_parsed_at_a_time(api: FakeApiServer, tmp_path: Path) -> None:
    """Use Pods of 200 kB. A parsed Pod can use 24 times its size, which is 72 MiB for a Pod of 3 MiB."""
    large = admission_review(pod(tolerations=[{}] * LARGE_BYTES))
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        responses: list[int] = []

        async def request_large() -> None:
            responses.append((await hook.ask(large)).status_code)

        async with hook.service.large:
            for _ in range(MAX_LARGE_WAITING):
                nursery.start_soon(request_large)
            await until(lambda: hook.service.large.statistics().tasks_waiting == MAX_LARGE_WAITING)
            denied = await hook.ask(large)
            assert (denied.status_code, "Try again" in denied.text) == (503, True)
            await hook.events.logged("large_review_rejected")
            assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        await until(lambda: len(responses) == MAX_LARGE_WAITING)
        assert set(responses) == {200}


def test_queue_of_the_listener_is_short() -> None:
    """
    Read the length of the queue, which is the sixth number of 32 bits in tcp_info.

    An honest connection waits behind the whole queue.
    """
    for listener in chain(*open_listeners(OPTIONS)):
        with listener:
            numbers = struct.unpack("8x8I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 40))
            assert numbers[5] == BACKLOG


SLOW = {
    "large": admission_review(pod(tolerations=[{}] * LARGE_BYTES)),
    "many containers in few values": admission_review(
        pod(*({"name": f"c{number}", "image": "i"} for number in range(LONG_CONTAINERS + 1)), tolerations=[])
    ),
    "many values in few bytes": admission_review(pod(tolerations=[{}] * LONG_PARTS)),
}


@pytest.mark.parametrize("kind", SLOW)
async def test_slow_review_does_not_delay_others(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Check that a thread decides on a slow review while the event loop responds to other reviews."""
    is_worked_on, may_end = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def slow_decide(review: Review, service_account: ServiceAccount | None, settings: Settings) -> ReviewResult:
        if "tolerations" in (review.pod or {})["spec"]:
            token.run_sync_soon(is_worked_on.set)
            assert may_end.wait(GUARD_SECONDS)
        return decide(review, service_account, settings)

    monkeypatch.setattr("sidecar.webhook.service.decide", slow_decide)
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        nursery.start_soon(hook.ask, SLOW[kind])
        with trio.fail_after(GUARD_SECONDS):
            await is_worked_on.wait()
            assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        may_end.set()


MEDIUM = {
    "many bytes": admission_review(pod(tolerations=[{"key": "a" * QUICK_BYTES}])),
    "many values in few bytes": admission_review(pod(tolerations=[{}] * LONG_PARTS)),
}


@pytest.mark.parametrize("kind", MEDIUM)
async def test_reviews_that_take_a_while_to_parse_are_parsed_in_turn(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Otherwise 400 clients with such reviews would hold up the event loop for 1 s in each of its turns."""
    monkeypatch.setattr("sidecar.webhook.service.MAX_PARSING_WAITING", 2)
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        responses: list[bool] = []

        async def request_medium() -> None:
            responses.append((await hook.ask(MEDIUM[kind])).json()["response"]["allowed"])

        async with hook.service.parsing:
            for _ in range(2):
                nursery.start_soon(request_medium)
            await until(lambda: hook.service.parsing.statistics().tasks_waiting == 2)
            denied = await hook.ask(MEDIUM[kind])
            assert (denied.status_code, "Try again" in denied.text) == (503, True)
            assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        await until(lambda: len(responses) == 2)
        assert responses == [True, True]


def with_roles(text: str, namespace: str = "shop") -> dict[str, object]:
    found = pod()
    found["metadata"]["annotations"] = {"irsa-sidecar.io/roles": text}
    return admission_review(found, namespace=namespace)


async def test_one_list_of_roles_is_parsed_at_a_time(api: FakeApiServer, tmp_path: Path) -> None:
    roles = with_roles(f"[{{name: default, role_arn: '{ARN}'}}]")
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        responses: list[bool] = []

        async def request_with_roles() -> None:
            responses.append((await hook.ask(roles)).json()["response"]["allowed"])

        async with hook.service.long.turn("another"):
            for _ in range(MAX_LONG_WAITING_OF_ONE):
                nursery.start_soon(request_with_roles)
            await until(lambda: hook.service.long.waiting("shop") == MAX_LONG_WAITING_OF_ONE)
            denied = (await hook.ask(roles)).json()["response"]
            assert (denied["allowed"], denied["status"]["code"]) == (False, 503)
            assert "Try again" in denied["status"]["message"]
            assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        await until(lambda: len(responses) == MAX_LONG_WAITING_OF_ONE)
        assert responses == [True] * MAX_LONG_WAITING_OF_ONE


@pytest.mark.parametrize("is_list", [True, False])
async def test_unexpected_exception_denies_the_pod_with_a_message(
    api: FakeApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_list: bool,  # noqa: FBT001  a column of the table
) -> None:
    def raises(*_: object) -> NoReturn:
        raise OverflowError("a value of the Pod")

    review = with_roles("[]") if is_list else admission_review()
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        with monkeypatch.context() as patch:
            patch.setattr("sidecar.webhook.review.inject", raises)
            response = (await hook.ask(review)).json()["response"]
        assert (response["uid"], response["allowed"], response["status"]["code"]) == ("u-1", False, 500)
        assert "OverflowError" in response["status"]["message"]
        assert "a value of the Pod" not in response["status"]["message"]
        await hook.events.logged("request_failed")
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True


async def test_unknown_service_accounts_do_not_delay_known_accounts(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server does not respond. Reviews above the limit are denied, and a known account needs no request."""
    monkeypatch.setattr("sidecar.webhook.service_accounts.MAX_WAITING", 2)
    monkeypatch.setattr("sidecar.webhook.service_accounts.REQUESTS_AT_ONCE", 1)
    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()

        async def never(_path: str, _keep: object) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(hook.service.api, "read", never)
        for number in range(3):
            nursery.start_soon(hook.ask, admission_review(service_account=f"unknown-{number}"))
        await until(lambda: hook.service.accounts._requests.waiting("shop") == 2)
        denied = (await hook.ask(admission_review(service_account="unknown"))).json()["response"]
        assert (denied["allowed"], denied["status"]["code"]) == (False, 503)
        assert "Too many Pods wait for the API server. Try again." in denied["status"]["message"]
        assert (await hook.events.logged("pod_denied_temporarily"))["pod"] == "cart-0"
        assert (await hook.ask(admission_review())).json()["response"]["allowed"] is True
        scraped = (await hook.admin("/metrics")).text
        assert 'irsa_sidecar_webhook_service_account_lookups_total{outcome="rejected"} 1' in scraped
        nursery.cancel_scope.cancel()


async def test_waiting_review_keeps_only_its_body(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parsed Pod uses 1.2 MiB, and the reviews of 128 Pods may wait."""
    body = json.dumps(admission_review(pod(padding="PADDING"), service_account="unknown")).encode()
    body = body.replace(b'"PADDING"', b"[" + b"[]," * 20_000 + b"[]]")
    assert len(body) <= LARGE_BYTES
    count = 20

    async def never(_path: str, _keep: object) -> None:
        await trio.sleep_forever()

    async with webhook(api, tmp_path) as hook, trio.open_nursery() as nursery:
        await hook.until_ready()
        service = hook.service
        monkeypatch.setattr(service.api, "read", never)
        tracemalloc.start()
        try:
            for _ in range(count):
                nursery.start_soon(service.respond, Request("POST", "/inject", body=body))
            await trio.testing.wait_all_tasks_blocked()
            assert tracemalloc.get_traced_memory()[0] < count * 100_000
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()


HOSTILE_ROLES = [
    r'"\UFFFFFFFF"',
    '["\\ud800"]',
    "[" * 3000,
    "- " * 4000,
    "a: &a [*a]",
    "!!python/name:os.system",
    "\0",
    "{",
    "%YAML 9.9\n---",
]


@pytest.mark.parametrize("text", HOSTILE_ROLES)
async def test_hostile_list_of_roles_is_denied(api: FakeApiServer, tmp_path: Path, text: str) -> None:
    async with webhook(api, tmp_path) as hook:
        await hook.until_ready()
        response = (await hook.ask(with_roles(text))).json()["response"]
        assert (response["allowed"], response["status"]["code"]) == (False, 422)
        assert response["status"]["message"].startswith("annotation irsa-sidecar.io/roles")
