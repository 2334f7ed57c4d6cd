"""Test the keys of a served issuer, of an unreachable issuer, and in a file."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from sidecar.errors import ConfigurationError
from sidecar.local.provider_keys import MAX_FILE_BYTES, FileKeys, IssuerKeys, fetch_keys
from sidecar.oidc.sts_rejection import StsRejection
from sidecar.oidc.verification import NO_KEY
from sidecar.serving.http_message import Request, Response, text_response
from tests.support.served_peer import serving_peer


class Site:
    """An issuer that serves `pages` and counts the requests for its keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
            "/keys": {"keys": [{"kid": "a"}]},
        }
        self.fetches = 0
        self.now = 1000.0
        self.events: list[str] = []

    def emit(self, event: str, /, **_fields: Any) -> None:
        self.events.append(event)

    async def respond(self, request: Request) -> Response:
        page = self.pages.get(request.path)
        self.fetches += request.path == "/keys"
        if page is None:
            return text_response(404, "nothing")
        return Response(200, page if isinstance(page, bytes) else json.dumps(page).encode(), "application/json")

    @property
    def keys(self) -> IssuerKeys:
        return IssuerKeys(self.url, self.url, lambda: self.now, self.emit)


def site() -> AbstractAsyncContextManager[Site]:
    return serving_peer(Site)


async def test_known_keys_are_fetched_only_once() -> None:
    async with site() as served:
        keys = served.keys
        for _ in range(3):
            assert await keys.keys_for("a") == [{"kid": "a"}]
        assert served.fetches == 1
        assert served.events == ["signing_keys_fetched"]


async def test_unknown_kid_causes_another_fetch() -> None:
    async with site() as served:
        keys = served.keys
        await keys.keys_for("a")
        served.pages["/keys"] = {"keys": [{"kid": "b"}, {"kid": "a"}]}
        served.now += 2
        assert await keys.keys_for("b") == [{"kid": "b"}, {"kid": "a"}]
        assert served.fetches == 2


async def test_withdrawn_key_is_accepted_for_300_seconds() -> None:
    async with site() as served:
        keys = served.keys
        await keys.keys_for("a")
        served.pages["/keys"] = {"keys": []}
        served.now += 299
        assert await keys.keys_for("a") == [{"kid": "a"}]
        served.now += 2
        assert await keys.keys_for("a") == []


async def test_tokens_with_the_same_unknown_key_share_one_fetch() -> None:
    async with site() as served:
        keys = served.keys
        await keys.keys_for("a")
        served.now += 2
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(keys.keys_for, "nowhere")
        assert served.fetches == 2


async def test_fetches_for_unknown_kids_are_a_second_apart(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    times: list[float] = []

    async def fetch(_issuer: str, _address: str) -> list[Any]:
        times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return []

    async def fail(issuer: str, address: str) -> list[Any]:
        await fetch(issuer, address)
        raise StsRejection("IDPCommunicationError", "down")

    for source in (fetch, fail):
        monkeypatch.setattr("sidecar.local.provider_keys.fetch_keys", source)
        keys = IssuerKeys("http://issuer.test", "http://issuer.test", trio.current_time, lambda *_, **__: None)
        times.clear()
        for _ in range(3):
            with suppress(StsRejection):
                await keys.keys_for("nowhere")
        assert [at - times[0] for at in times] == [0.0, 1.0, 2.0]


async def test_fetch_of_new_keys_does_not_delay_known_keys(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async def fetch(_issuer: str, _address: str) -> list[Any]:
        await trio.sleep(5)
        return [{"kid": "a"}]

    monkeypatch.setattr("sidecar.local.provider_keys.fetch_keys", fetch)
    keys = IssuerKeys("http://issuer.test", "http://issuer.test", trio.current_time, lambda *_, **__: None)
    await keys.keys_for("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.keys_for, "nowhere")
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        assert await keys.keys_for("a") == [{"kid": "a"}]
        assert trio.current_time() == before


Break = Callable[[Site], None]


@pytest.mark.parametrize(
    "break_site",
    [
        lambda served: served.pages.update({"/keys": b"<html>"}),
        lambda served: served.pages.update({"/keys": []}),
        lambda served: served.pages.update({"/keys": {"keys": "a"}}),
        lambda served: served.pages.update({"/keys": {"keys": ["a"]}}),
        lambda served: served.pages.update({"/keys": b" " * 300_000 + b"{}"}),
        lambda served: served.pages.update({"/keys": b"[" * 200_000}),
        lambda served: served.pages.update({"/.well-known/openid-configuration": {"issuer": "http://other.test"}}),
        lambda served: served.pages.update({"/.well-known/openid-configuration": {"issuer": served.url}}),
        lambda served: served.pages.update({"/.well-known/openid-configuration": "text"}),
    ],
)
async def test_issuer_with_invalid_documents_yields_no_keys(break_site: Break) -> None:
    async with site() as served:
        break_site(served)
        with pytest.raises(StsRejection) as caught:
            await fetch_keys(served.url, served.url)
        assert (caught.value.code, str(caught.value)) == ("InvalidIdentityToken", NO_KEY)
        assert served.url in caught.value.reason


@pytest.mark.parametrize(
    "break_site",
    [
        lambda served: served.pages.clear(),
        lambda served: served.pages["/.well-known/openid-configuration"].update(jwks_uri="http://127.0.0.1:9/keys"),
        lambda served: served.pages["/.well-known/openid-configuration"].update(jwks_uri="gopher://x"),
    ],
)
async def test_unreachable_issuer_causes_a_communication_error(break_site: Break) -> None:
    async with site() as served:
        break_site(served)
        with pytest.raises(StsRejection) as caught:
            await fetch_keys(served.url, served.url)
        assert (caught.value.code, caught.value.status) == ("IDPCommunicationError", 400)
        assert served.url in caught.value.reason


async def test_fetch_from_an_issuer_that_hangs_times_out(autojump_clock: object) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(StsRejection) as caught:
            await fetch_keys(url, url)
    assert caught.value.code == "IDPCommunicationError"


async def test_key_file_is_read_for_each_token(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": [{"kid": "a"}]}')
    keys = FileKeys(path)
    assert await keys.keys_for("a") == [{"kid": "a"}]
    path.write_text('{"keys": []}')
    assert await keys.keys_for("a") == []
    path.write_text("nonsense")
    with pytest.raises(StsRejection) as caught:
        await keys.keys_for("a")
    assert caught.value.code == "InvalidIdentityToken"


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "large"])
def test_key_file_must_be_a_small_regular_file(tmp_path: Path, kind: str) -> None:
    path = {"device": Path("/dev/zero")}.get(kind, tmp_path / "jwks.json")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="jwks_file is"):
        FileKeys(path)


@pytest.mark.parametrize(
    "content", [None, "nonsense", "[]", '{"keys": 1}', "[" * 5000, '{"keys": [' + "9" * 5000 + "]}"]
)
def test_file_without_keys_is_a_configuration_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "jwks.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"jwks\.json"):
        FileKeys(path)
