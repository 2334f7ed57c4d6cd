"""
Probe the network path to a server step by step: name, connection, proxy, TLS, response.

Each step has its own deadline, and the first failed step ends the probe. The proxy and the trusted certificate
authorities are the daemon's.
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

from sidecar.authorities import trust_in, unverified
from sidecar.doctor.checks.certificate import signer
from sidecar.doctor.checks.sts import NetworkPath
from sidecar.doctor.probes.http_request import Response, send_request
from sidecar.errors import ConfigurationError
from sidecar.outbound import Failure, NetworkError, network_error, proxy_for
from sidecar.sts.client import CONNECT_SECONDS

STEP_SECONDS = CONNECT_SECONDS
_PORTS = {"http": 80, "https": 443}


class _StepError(Exception):
    """An error that ends the probe. The path holds the reason."""


async def collect(url: str, ca_bundle: str | None) -> NetworkPath:
    """
    Return the path to `url`, up to the first failed step.

    Raises ConfigurationError if the proxy setting cannot be used, which the settings probe reports earlier.
    """
    parts = urlsplit(url)
    probe = _PathProbe(url, parts, ca_bundle)
    with suppress(_StepError):
        await probe.run()
    return probe.path


class _PathProbe:
    """The probe for one path. `path` holds the results of the steps so far."""

    def __init__(self, url: str, parts: SplitResult, ca_bundle: str | None) -> None:
        self._parts = parts
        self._ca_bundle = ca_bundle
        self._proxy = urlsplit(proxy_for(url) or "")
        proxy = self._proxy.netloc.rpartition("@")[2] or None
        self.path = NetworkPath(url, parts.netloc, proxy=proxy)

    async def run(self) -> None:
        parts, first = self._parts, self._proxy if self.path.proxy else self._parts
        addresses = await self._resolve(first)
        async with await self._connect(addresses) as connection:
            stream: trio.abc.Stream = connection
            if self.path.proxy is not None:
                stream = await self._through_proxy(stream)
            if parts.scheme == "https":
                stream = await self._encrypt(stream, parts.hostname or "")
            await self._request(stream)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = perf_counter()
        try:
            with trio.fail_after(STEP_SECONDS):
                yield
        except trio.TooSlowError as exc:
            raise self._failed(name, Failure.TIMEOUT, f"no response within {STEP_SECONDS:.0f} s") from exc
        except (OSError, trio.BrokenResourceError, ConfigurationError, h11.ProtocolError, UnicodeError) as exc:
            raise self._failed(name, *_described(exc)) from exc
        self.path = self.path._replace(seconds=(*self.path.seconds, (name, perf_counter() - began)))

    def _failed(self, step: str, failure: Failure, reason: str) -> _StepError:
        self.path = self.path._replace(failed_step=step, reason=reason, failure=failure)
        return _StepError()

    async def _resolve(self, parts: SplitResult) -> list[tuple[int, tuple[str, int]]]:
        with self._step("name"):
            port = parts.port or _PORTS.get(parts.scheme, 443)
            found = await trio.socket.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
            addresses = [(int(family), (str(address[0]), int(address[1]))) for family, _, _, _, address in found]
            self.path = self.path._replace(addresses=tuple(dict.fromkeys(address[0] for _, address in addresses)))
        return addresses

    async def _connect(self, addresses: list[tuple[int, tuple[str, int]]]) -> trio.SocketStream:
        """Connect to the first address that accepts a connection. All addresses have one common deadline."""
        with self._step("connect"):
            for family, address in addresses[:-1]:
                with suppress(OSError), trio.move_on_after(STEP_SECONDS / len(addresses)):
                    return await _connected(family, address)
            return await _connected(*addresses[-1])
        raise AssertionError

    async def _through_proxy(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        with self._step("proxy"):
            if self._proxy.scheme == "https":
                stream = await _encrypted(stream, self._proxy.hostname or "", trust_in(self._ca_bundle))
            if self._parts.scheme == "https":
                target = f"{self._parts.hostname}:{self._parts.port or 443}"
                response = await send_request(
                    stream, "CONNECT", target, {"Host": target, **self._proxy_authorization()}
                )
                if response.status != 200:
                    raise OSError(0, f"it returns {response.status}")
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
            signers.append(await self._signer_of_rejected_certificate(host))
            raise
        finally:
            self.path = self.path._replace(authority=signers[-1] if signers else None)
        return encrypted

    async def _signer_of_rejected_certificate(self, host: str) -> str | None:
        """Connect again without verification, only to read the certificate's issuer. No request is sent."""
        if self.path.proxy is not None or not self.path.addresses:
            return None
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(STEP_SECONDS):
            port = self._parts.port or 443
            async with await trio.open_tcp_stream(self.path.addresses[0], port) as stream:
                encrypted = await _encrypted(stream, host, unverified())
                return signer(encrypted.getpeercert(binary_form=True) or b"")
        return None

    async def _request(self, stream: trio.abc.Stream) -> None:
        with self._step("response"):
            target = self._parts.path or "/"
            if self.path.proxy is not None and self._parts.scheme == "http":
                target = self.path.url
            response = await send_request(stream, "GET", target, {"Host": self._parts.netloc, "Connection": "close"})
        self.path = self.path._replace(skew_seconds=_skew(response))


async def _connected(family: int, address: tuple[str, int]) -> trio.SocketStream:
    connection = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


async def _encrypted(stream: trio.abc.Stream, host: str, trust: ssl.SSLContext) -> "trio.SSLStream[trio.abc.Stream]":
    encrypted = trio.SSLStream(stream, trust, server_hostname=host, https_compatible=True)
    await encrypted.do_handshake()
    return encrypted


def _skew(response: Response) -> float | None:
    """
    Return the seconds by which the server's clock is ahead, or None if the response has no valid `Date`.

    `Date` has whole seconds, so the function adds half a second, which is the average rounding error.
    """
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp() + 0.5 - time()
    except (ValueError, TypeError, OverflowError):
        return None


def _described(exc: BaseException) -> NetworkError:
    """Return the kind of failure, and the message from the component that failed, such as TLS or the resolver."""
    if isinstance(exc, ConfigurationError):
        return NetworkError(Failure.TLS, str(exc))
    if isinstance(exc, h11.ProtocolError):
        return NetworkError(Failure.PROTOCOL, "the server does not speak HTTP")
    failure, reason = network_error(exc)
    return NetworkError(failure, reason or getattr(exc, "strerror", None) or "the connection was closed")
