"""Test the watch of ServiceAccounts, which breaks and restarts, and the limited queue of Events."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.injection.inject import inject
from sidecar.injection.settings import ServiceAccount
from sidecar.kubernetes import async_client
from sidecar.kubernetes import list_watch as follow_module
from sidecar.kubernetes.async_client import DEADLINE_SECONDS, KubernetesApi, open_api
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.kubernetes.list_watch import LONGEST_PAUSE_SECONDS, pause_seconds
from sidecar.webhook import events as events_module
from sidecar.webhook import known_service_accounts
from sidecar.webhook.events import MAX_WAITING
from sidecar.webhook.events import Events as PodEvents
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.review import Outcome, Review, ReviewResult
from sidecar.webhook.service_accounts import MAX_WAITING as MAX_REVIEWS
from sidecar.webhook.service_accounts import MAX_WAITING_OF_ONE, REQUESTS_AT_ONCE, ServiceAccounts
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.processes import GUARD_SECONDS
from tests.unit.injection.pods import ARN, OTHER_ARN, SETTINGS, pod
from tests.unit.webhook.cluster import ACCOUNT, Events, kubeconfig_file, put_service_account, until

ROLE = "eks.amazonaws.com/role-arn"
WATCHED = "/api/v1/serviceaccounts"


@pytest.fixture
def fake() -> Iterator[FakeApiServer]:
    with api_server() as found:
        put_service_account(found)
        yield found


@pytest.fixture
async def api(fake: FakeApiServer, tmp_path: Path, no_proxies: None) -> AsyncIterator[KubernetesApi]:
    async with open_api(find_cluster(kubeconfig_file(fake, tmp_path))) as found:
        yield found


class Followed:
    def __init__(self, api: KubernetesApi) -> None:
        self.events = Events()
        self.metrics = WebhookMetrics()
        self.accounts = ServiceAccounts(api, self.events.log, self.metrics, jitter=lambda: 0.0)

    async def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """Find the ServiceAccount of a Pod that needs a role."""
        cached = self.accounts.cached(namespace, name, needs_role=True)
        return cached or await self.accounts.fetch(namespace, name)

    async def role(self, name: str = "cart") -> str | None:
        found = await self.find("shop", name)
        return found.annotations.get(ROLE) if found else None


async def test_known_service_account_is_not_requested(fake: FakeApiServer, api: KubernetesApi) -> None:
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        await followed.events.logged("service_accounts_listed")
        before = len(fake.requests)
        assert await followed.role() == ARN
        put_service_account(fake, role_arn=OTHER_ARN)
        with trio.fail_after(GUARD_SECONDS):
            while await followed.role() != OTHER_ARN:
                await trio.testing.wait_all_tasks_blocked(0.001)
        fake.remove(ACCOUNT)
        await until(lambda: not len(followed.accounts))
        assert [target for method, target in fake.requests[before:] if ACCOUNT in target] == []
        assert await followed.role() is None
        assert followed.metrics.lookups["fetched"] == 1
        nursery.cancel_scope.cancel()


async def test_every_service_account_is_requested_without_a_watch(fake: FakeApiServer, api: KubernetesApi) -> None:
    followed = Followed(api)
    assert await followed.role() == ARN
    assert followed.metrics.lookups == {"fetched": 1}
    fake.broken[ACCOUNT] = (500, {"message": "no"})
    with pytest.raises(KubernetesError, match="no"):
        await followed.role()
    assert followed.metrics.lookups == {"fetched": 1, "failed": 1}


async def test_only_annotations_that_are_read_are_kept(fake: FakeApiServer, api: KubernetesApi) -> None:
    """Check that a user who can create ServiceAccounts in one namespace cannot use the memory for all namespaces."""
    read = {
        "eks.amazonaws.com/role-arn": ARN,
        "eks.amazonaws.com/audience": "sts.cn",
        "eks.amazonaws.com/token-expiration": "600",
        "eks.amazonaws.com/sts-regional-endpoints": "true",
    }
    metadata = {"name": "cart", "namespace": "shop"}
    others = {"eks.amazonaws.com/any": "x" * 200_000, "example.com/other": "x"}
    fake.put(ACCOUNT, {"kind": "ServiceAccount", "metadata": {**metadata, "annotations": {**others, **read}}})
    followed = Followed(api)
    found = await followed.find("shop", "cart")
    assert found is not None
    assert found.annotations == read


async def test_service_accounts_beyond_the_limit_are_requested(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_service_accounts, "MAX_BYTES_OF_NAMESPACE", 20_000)
    for number in range(100):
        put_service_account(fake, f"/api/v1/namespaces/evil/serviceaccounts/a{number}")
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        listed = await followed.events.logged("service_accounts_listed")
        assert listed["count"] + listed["not_cached"] == 101
        assert 20 < listed["count"] < 40
        assert await followed.role() == ARN
        assert followed.metrics.lookups == {"cached": 1}
        for number in (0, 99):
            found = await followed.find("evil", f"a{number}")
            assert found is not None
            assert found.annotations == {ROLE: ARN}
        assert followed.metrics.lookups == {"cached": 2, "fetched": 1}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("value", ["arn:aws:iam::111122223333:user/me", f"{ARN}{'x' * 9000}", "", "\N{SNOWMAN}"])
async def test_service_account_with_unusable_role_is_requested(
    fake: FakeApiServer, api: KubernetesApi, value: str
) -> None:
    metadata = {"name": "cart", "namespace": "shop", "annotations": {ROLE: value}}
    fake.put(ACCOUNT, {"kind": "ServiceAccount", "metadata": metadata})
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        assert (await followed.events.logged("service_accounts_listed"))["count"] == 0
        service_account = await followed.find("shop", "cart")
        assert service_account is not None
        with pytest.raises(ConfigurationError, match="not the ARN of an IAM role"):
            inject(pod(), service_account, SETTINGS)
        nursery.cancel_scope.cancel()


async def test_simultaneous_requests_are_limited(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, running, most = Followed(api), 0, 0

    async def read(_path: str, _keep: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked()
        running -= 1

    monkeypatch.setattr(api, "read", read)
    async with trio.open_nursery() as nursery:
        for number in range(REQUESTS_AT_ONCE + MAX_WAITING_OF_ONE):
            nursery.start_soon(followed.find, "shop", f"a{number}")
    assert most == REQUESTS_AT_ONCE


async def test_number_of_waiting_reviews_is_limited(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Check that a review above the limit is rejected at once, and that no namespace uses all places."""
    followed = Followed(api)
    rejected: list[tuple[str, float]] = []
    count = REQUESTS_AT_ONCE + MAX_WAITING_OF_ONE + 1

    async def read(_path: str, _keep: object) -> None:
        await trio.sleep(DEADLINE_SECONDS - 1)

    async def find(namespace: str, name: str) -> None:
        try:
            await followed.find(namespace, name)
        except KubernetesError as error:
            rejected.append((str(error), trio.current_time()))

    monkeypatch.setattr(api, "read", read)
    async with trio.open_nursery() as nursery:
        for namespace in ("evil", "worse", "shop"):
            for number in range(count):
                nursery.start_soon(find, namespace, f"a{number}")
            await trio.testing.wait_all_tasks_blocked()
            assert rejected
        assert len(rejected) == 3 * count - REQUESTS_AT_ONCE - MAX_REVIEWS
        assert set(rejected) == {("Too many Pods wait for the API server. Try again.", 0.0)}
        places = [len(followed.accounts._requests._waiting[name]) for name in ("evil", "worse", "shop")]
        assert (sum(places), max(places) - min(places)) == (MAX_REVIEWS, 0)
        nursery.cancel_scope.cancel()
    assert followed.metrics.lookups["rejected"] == len(rejected)


async def test_wait_for_a_request_has_a_deadline(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Check that the webhook responds before the API server stops waiting for the response."""
    followed = Followed(api)

    async def read(_path: str, _keep: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(api, "read", read)
    async with trio.open_nursery() as nursery:
        for number in range(REQUESTS_AT_ONCE):
            nursery.start_soon(followed.find, "shop", f"a{number}")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(KubernetesError, match="no response yet"):
            await followed.find("shop", "cart")
        assert trio.current_time() == pytest.approx(DEADLINE_SECONDS)
        nursery.cancel_scope.cancel()


async def test_watch_of_an_expired_version_restarts_with_a_list(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "FIRST_PAUSE_SECONDS", 0.0)
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        await followed.events.logged("service_accounts_listed")
        await until(lambda: bool(fake.open_watches))
        fake.forget_history()
        assert "too old" in (await followed.events.logged("service_accounts_watch_ended"))["reason"]
        await followed.events.logged("service_accounts_listed", times=2)
        assert await followed.role() == ARN
        nursery.cancel_scope.cancel()


async def test_rejected_list_is_retried(fake: FakeApiServer, api: KubernetesApi) -> None:
    fake.broken[WATCHED] = (403, {"message": "forbidden"})
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        assert "forbidden" in (await followed.events.logged("service_accounts_watch_ended"))["reason"]
        assert not followed.accounts.is_live
        del fake.broken[WATCHED]
        await followed.events.logged("service_accounts_listed")
        nursery.cancel_scope.cancel()


async def test_known_service_account_is_requested_without_a_watch(fake: FakeApiServer, api: KubernetesApi) -> None:
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        await followed.events.logged("service_accounts_listed")
        await until(lambda: bool(fake.open_watches))
        fake.broken[WATCHED] = (503, {"message": "away"})
        fake.forget_history()
        await followed.events.logged("service_accounts_watch_ended")
        put_service_account(fake, role_arn=OTHER_ARN)
        assert await followed.role() == OTHER_ARN
        assert followed.metrics.lookups == {"fetched": 1}
        nursery.cancel_scope.cancel()


async def test_list_of_service_accounts_is_read_in_pages(fake: FakeApiServer, api: KubernetesApi) -> None:
    pages: list[Any] = [
        {"metadata": {"continue": "more", "resourceVersion": "1"}, "items": [{"a": 1}]},
        {"metadata": {"resourceVersion": "2"}, "items": [{"b": 2}]},
    ]
    fake.faults += [(200, page) for page in pages]
    assert await api.list(WATCHED, {}, lambda item: [*item]) == ([["a"], ["b"]], "2")
    assert "continue=more" in fake.requests[-1][1]


async def test_page_that_is_too_long_is_requested_in_shorter_pages(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The webhook never has a page of 100 objects of 1.5 MiB in memory."""
    monkeypatch.setattr(async_client, "MAX_BYTES", 30_000)
    for number in range(20):
        metadata = {"name": f"a{number}", "namespace": "evil", "annotations": {ROLE: ARN, "x": "y" * 10_000}}
        fake.put(f"/api/v1/namespaces/evil/serviceaccounts/a{number}", {"kind": "ServiceAccount", "metadata": metadata})
    items, _ = await api.list(WATCHED, {}, lambda item: item["metadata"]["name"])
    assert items == ["cart", *(f"a{number}" for number in range(20))]
    limits = [parse_qs(urlsplit(target).query)["limit"][0] for _, target in fake.requests]
    assert limits[:4] == ["100", "10", "1", "2"]


async def test_long_page_without_an_end_is_requested_in_shorter_pages(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A page may be so long that it does not arrive before the deadline."""
    monkeypatch.setattr(async_client, "MAX_BYTES", 1000)
    limits: list[str] = []

    class Response:
        status_code, is_error = 200, False

        async def aiter_bytes(self) -> AsyncIterator[bytes]:
            yield b'{"metadata": {"resourceVersion": "1"}}'
            if limits[-1] != "1":
                yield b" " * 2000
                await trio.sleep_forever()

    class Client:
        @asynccontextmanager
        async def stream(self, *_: object, params: dict[str, str], **__: object) -> AsyncIterator[Response]:
            limits.append(params["limit"])
            yield Response()

    async def client() -> Client:
        return Client()

    monkeypatch.setattr(api._connected, "client", client)
    assert await api.list(WATCHED, {}, lambda item: item) == ([], "1")
    assert limits == ["100", "10", "1"]


async def test_object_that_is_too_long_is_an_error(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "MAX_OBJECT_BYTES", 1000)
    metadata = {"name": "cart", "namespace": "shop", "annotations": {"x": "y" * 10_000}}
    fake.put(ACCOUNT, {"kind": "ServiceAccount", "metadata": metadata})
    followed = Followed(api)
    with pytest.raises(KubernetesError, match="is over 1000 bytes"):
        await followed.role()
    monkeypatch.setattr(async_client, "MAX_BYTES", 1000)
    with pytest.raises(KubernetesError, match="is over 1000 bytes"):
        await api.list(WATCHED, {}, lambda item: item)


@pytest.mark.parametrize("body", [{}, {"metadata": {}, "items": [{}]}, {"metadata": {}, "items": 5}, {"metadata": []}])
async def test_malformed_list_is_retried(fake: FakeApiServer, api: KubernetesApi, body: Any) -> None:
    fake.faults.append((200, body))
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        assert "not a Kubernetes object" in (await followed.events.logged("service_accounts_watch_ended"))["reason"]
        await followed.events.logged("service_accounts_listed")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("body", [{}, {"metadata": 5}, {"metadata": {"name": "cart"}}])
async def test_malformed_service_account_is_an_error(fake: FakeApiServer, api: KubernetesApi, body: Any) -> None:
    fake.faults.append((200, body))
    followed = Followed(api)
    with pytest.raises(KubernetesError, match="not a Kubernetes object"):
        await followed.find("shop", "cart")
    assert followed.metrics.lookups == {"failed": 1}


@pytest.mark.parametrize("event", [{"type": "ADDED"}, {"type": "MODIFIED", "object": 5}])
def test_malformed_event_ends_the_watch(event: Any) -> None:
    def take(_kind: str, document: Any) -> None:
        document["metadata"]

    with pytest.raises(KubernetesError, match="not a Kubernetes object"):
        async_client._event(json.dumps(event), WATCHED, take)


async def test_request_without_a_response_has_a_deadline(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "DEADLINE_SECONDS", 0.0)
    with pytest.raises(KubernetesError, match="GET /version"):
        await api.get("/version")


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
async def test_response_that_is_not_a_document_is_an_error(
    fake: FakeApiServer, api: KubernetesApi, body: bytes
) -> None:
    fake.faults.append((200, body))
    with pytest.raises(KubernetesError, match="/version is not"):
        await api.get("/version")


async def test_login_plugin_is_rejected_at_the_start(fake: FakeApiServer, tmp_path: Path) -> None:
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws"}}
    (tmp_path / "k").write_text(str(kubeconfig(fake.url, plugin)))
    with pytest.raises(ConfigurationError, match="logs in with a plugin"):
        async with open_api(find_cluster({"KUBECONFIG": str(tmp_path / "k")})):
            pass


def test_pauses_double_up_to_a_limit_with_jitter() -> None:
    assert [pause_seconds(n, 1.0) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert pause_seconds(1, 0.0) == 0.25
    assert pause_seconds(10_000, 1.0) == LONGEST_PAUSE_SECONDS


# Events

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-1", "uid": "u", "controller": True}
REVIEW = Review("u-1", "shop", "cart", {"metadata": {"ownerReferences": [OWNER]}})


def warned(text: str) -> ReviewResult:
    return ReviewResult({}, Outcome.INJECTED, warnings=(text,))


async def test_events_are_not_repeated_soon_and_the_queue_is_limited(api: KubernetesApi) -> None:
    metrics, now = WebhookMetrics(), [0.0]
    events = PodEvents(api, Events().log, metrics, lambda: now[0], "here")
    for at in (0.0, 599.0, 600.0):
        now[0] = at
        events.emit(REVIEW, warned("the same"))
    for number in range(MAX_WAITING):
        events.emit(REVIEW, warned(str(number)))
    assert metrics.events == {"dropped": 2}
    events.emit(REVIEW._replace(is_dry_run=True), warned("dry"))
    events.emit(REVIEW._replace(pod={}), warned("of nobody"))
    assert metrics.events == {"dropped": 2}


async def test_number_of_remembered_owners_is_limited(api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MAX_REMEMBERED", 2)
    now = [0.0]
    events = PodEvents(api, Events().log, WebhookMetrics(), lambda: now[0], "here")
    for at in range(5):
        now[0] = float(at)
        events.emit(REVIEW, warned(str(at)))
    assert len(events._emitted_at) == 2
    now[0] = 1000.0
    events.emit(REVIEW, warned("later"))
    assert list(events._emitted_at) == [("u", "later")]


@pytest.mark.parametrize("field", ["apiVersion", "kind", "name", "uid"])
async def test_malformed_owner_gets_no_event(api: KubernetesApi, field: str) -> None:
    """Use wrong values, because the API server validates ownerReferences only after the webhook."""
    events = PodEvents(api, Events().log, WebhookMetrics(), lambda: 0.0, "here")
    wrong: list[Any] = ["x" * 254, "", None, {}]
    for value in wrong:
        owner = {**OWNER, field: value}
        events.emit(REVIEW._replace(pod={"metadata": {"ownerReferences": [owner]}}), warned("of nobody"))
    assert events._emitted_at == {}


async def test_rejected_event_is_counted(fake: FakeApiServer, api: KubernetesApi) -> None:
    metrics, log = WebhookMetrics(), Events()
    events = PodEvents(api, log.log, metrics, lambda: 0.0, "here")
    fake.faults.append((403, {"message": "forbidden"}))
    for text in ("first", "second"):
        events.emit(REVIEW, warned(text))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.run)
        await log.logged("event_sent")
        nursery.cancel_scope.cancel()
    assert metrics.events == {"failed": 1, "sent": 1}


async def test_ended_watch_continues_at_its_last_version(
    fake: FakeApiServer, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "WATCH_SECONDS", 0)
    monkeypatch.setattr(follow_module, "FIRST_PAUSE_SECONDS", 0.0)
    followed = Followed(api)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.accounts.run)
        await followed.events.logged("service_accounts_listed")
        await until(lambda: sum("watch=" in target for _, target in fake.requests) >= 3)
        assert followed.accounts.is_live
        assert len(followed.events.of("service_accounts_listed")) == 1
        nursery.cancel_scope.cancel()
