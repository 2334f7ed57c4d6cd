"""
The way to a server, taken step by step: its name, a connection, the proxy's consent, TLS, an answer.

Each step has a deadline of its own, and the first that fails ends the way. The proxy and the trusted authorities are
those that the daemon takes.
"""

import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from time import perf_counter, time
from urllib.parse import SplitResult, unquote, urlsplit

import h11
import trio

from sidecar.doctor.checks.certificate import signer
from sidecar.doctor.checks.sts import Reach
from sidecar.doctor.probes.conversation import Answer, ask
from sidecar.errors import ConfigurationError
from sidecar.outbound import Failure, NetworkError, network_error, proxy_for, trust_in, unverified
from sidecar.sts.client import CONNECT_SECONDS

STEP_SECONDS = CONNECT_SECONDS
_PORTS = {"http": 80, "https": 443}


class _StepError(Exception):
    """The step that failed, and why."""


async def reach(url: str, ca_bundle: str | None) -> Reach:
    """How far one gets towards `url`. Raises nothing."""
    parts = urlsplit(url)
    walk = _Walk(url, parts, ca_bundle)
    with suppress(_StepError):
        await walk.go()
    return walk.reach


class _Walk:
    def __init__(self, url: str, parts: SplitResult, ca_bundle: str | None) -> None:
        self._parts = parts
        self._ca_bundle = ca_bundle
        self._proxy = urlsplit(proxy_for(url) or "")
        proxy = self._proxy.netloc.rpartition("@")[2] or None
        self.reach = Reach(url, parts.netloc, proxy=proxy)

    async def go(self) -> None:
        parts, first = self._parts, self._proxy if self.reach.proxy else self._parts
        addresses = await self._resolve(first)
        async with await self._connect(addresses) as connection:
            stream: trio.abc.Stream = connection
            if self.reach.proxy is not None:
                stream = await self._through_proxy(stream)
            if parts.scheme == "https":
                stream = await self._encrypt(stream, parts.hostname or "")
            await self._ask(stream)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = perf_counter()
        try:
            with trio.fail_after(STEP_SECONDS):
                yield
        except trio.TooSlowError as exc:
            raise self._failed(name, Failure.TIMEOUT, f"nothing came within {STEP_SECONDS:.0f} s") from exc
        except (OSError, trio.BrokenResourceError, ConfigurationError, h11.ProtocolError, UnicodeError) as exc:
            raise self._failed(name, *_described(exc)) from exc
        self.reach = self.reach._replace(seconds=(*self.reach.seconds, (name, perf_counter() - began)))

    def _failed(self, step: str, failure: Failure, why: str) -> _StepError:
        self.reach = self.reach._replace(failed=step, why=why, failure=failure)
        return _StepError()

    async def _resolve(self, parts: SplitResult) -> list[tuple[int, tuple[str, int]]]:
        with self._step("name"):
            port = parts.port or _PORTS.get(parts.scheme, 443)
            found = await trio.socket.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
            addresses = [(int(family), (str(where[0]), int(where[1]))) for family, _, _, _, where in found]
            self.reach = self.reach._replace(addresses=tuple(dict.fromkeys(where[0] for _, where in addresses)))
        return addresses

    async def _connect(self, addresses: list[tuple[int, tuple[str, int]]]) -> trio.SocketStream:
        """To the first address that takes it, all within one deadline."""
        with self._step("connect"):
            for family, where in addresses[:-1]:
                with suppress(OSError), trio.move_on_after(STEP_SECONDS / len(addresses)):
                    return await _connected(family, where)
            return await _connected(*addresses[-1])
        raise AssertionError

    async def _through_proxy(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        with self._step("proxy"):
            if self._proxy.scheme == "https":
                stream = await _encrypted(stream, self._proxy.hostname or "", trust_in(self._ca_bundle))
            if self._parts.scheme == "https":
                target = f"{self._parts.hostname}:{self._parts.port or 443}"
                answer = await ask(stream, "CONNECT", target, {"Host": target, **self._proxy_authorization()})
                if answer.status != 200:
                    raise OSError(0, f"it answers {answer.status}")
        return stream

    def _proxy_authorization(self) -> dict[str, str]:
        user, at, _ = self._proxy.netloc.rpartition("@")
        if not at:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"}

    async def _encrypt(self, stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
        signers: list[str | None] = []
        try:
            with self._step("tls"):
                encrypted = await _encrypted(stream, host, trust_in(self._ca_bundle))
                signers.append(signer(encrypted.getpeercert(binary_form=True) or b""))
        except _StepError:
            signers.append(await self._signer_of_what_is_shown(host))
            raise
        finally:
            self.reach = self.reach._replace(authority=signers[-1] if signers else None)
        return encrypted

    async def _signer_of_what_is_shown(self, host: str) -> str | None:
        """Look once more without trusting anybody, to name who signed; nothing is sent."""
        if self.reach.proxy is not None or not self.reach.addresses:
            return None
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(STEP_SECONDS):
            port = self._parts.port or 443
            async with await trio.open_tcp_stream(self.reach.addresses[0], port) as stream:
                encrypted = await _encrypted(stream, host, unverified())
                return signer(encrypted.getpeercert(binary_form=True) or b"")
        return None

    async def _ask(self, stream: trio.abc.Stream) -> None:
        with self._step("answer"):
            target = self._parts.path or "/"
            if self.reach.proxy is not None and self._parts.scheme == "http":
                target = self.reach.url
            answer = await ask(stream, "GET", target, {"Host": self._parts.netloc, "Connection": "close"})
        self.reach = self.reach._replace(skew_seconds=_skew(answer))


async def _connected(family: int, where: tuple[str, int]) -> trio.SocketStream:
    connection = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


async def _encrypted(stream: trio.abc.Stream, host: str, trust: ssl.SSLContext) -> "trio.SSLStream[trio.abc.Stream]":
    encrypted = trio.SSLStream(stream, trust, server_hostname=host, https_compatible=True)
    await encrypted.do_handshake()
    return encrypted


def _skew(answer: Answer) -> float | None:
    """How far ahead the server's clock is. Its `Date` is cut to whole seconds."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp() + 0.5 - time()
    except (ValueError, TypeError, OverflowError):
        return None


def _described(exc: BaseException) -> NetworkError:
    """Return the message of the part that failed: TLS, the resolver or the kernel."""
    if isinstance(exc, ConfigurationError):
        return NetworkError(Failure.TLS, str(exc))
    if isinstance(exc, h11.ProtocolError):
        return NetworkError(Failure.PROTOCOL, "the server does not speak HTTP")
    failure, reason = network_error(exc)
    return NetworkError(failure, reason or getattr(exc, "strerror", None) or "the connection broke off")
