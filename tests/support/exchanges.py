"""Run one exchange of the real client with a scripted STS on loopback, over plain HTTP or TLS."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from sidecar.errors import ExchangeError
from sidecar.sts.client import ExchangeResult, StsClient
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token, decode_token
from tests.support.fakes.scripted_sts import Reply, ScriptedSts
from tests.support.fakes.tokens import service_account_token

REQUEST = ExchangeRequest("arn:aws:iam::111122223333:role/cart", "shop.cart", 3600)
TOKEN: Token = decode_token(service_account_token(1_800_000_000.0).encode(), "/token")
STS_HOST = "sts.eu-west-1.amazonaws.com"


class Resolver(trio.abc.HostnameResolver):
    """A resolver that maps `names` to 127.0.0.1, and knows no other names. A silent resolver never returns."""

    def __init__(self, *names: str, is_silent: bool = False) -> None:
        self._names = names
        self._is_silent = is_silent

    async def getaddrinfo(self, host: bytes | str | None, port: bytes | str | int | None, *_: int) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if self._is_silent:
            await trio.sleep_forever()
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        raise NotImplementedError


@asynccontextmanager
async def scripted(
    *replies: Reply, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedSts]:
    sts = ScriptedSts(replies, tls=tls, host=host)
    async with trio.open_nursery() as nursery:
        await nursery.start(sts.serve)
        yield sts
        nursery.cancel_scope.cancel()


async def exchange(url: str, *, ca_bundle: str | None = None) -> ExchangeResult:
    async with StsClient(url, ca_bundle=ca_bundle) as client:
        return await client.exchange(REQUEST, TOKEN)


async def failure(url: str, *, ca_bundle: str | None = None) -> ExchangeError:
    """Return the error of one exchange, and check that it never shows the token."""
    with pytest.raises(ExchangeError) as caught:
        await exchange(url, ca_bundle=ca_bundle)
    shown = f"{caught.value} {caught.value!r} {caught.value.message}"
    assert not any(part in shown for part in TOKEN.raw.split("."))
    return caught.value


async def failure_of(reply: Reply) -> ExchangeError:
    async with scripted(reply) as sts:
        return await failure(sts.url)


class Authority:
    """A certificate authority, the file with its certificate, and the TLS contexts of its servers."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.bundle = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.bundle)

    def server(self, name: str = STS_HOST, not_after: datetime | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(name, not_after=not_after).configure_cert(context)
        return context
