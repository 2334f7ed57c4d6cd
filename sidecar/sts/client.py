"""
Exchange a token at STS over HTTPS, including the role chain. In `run`, only this module and outbound.py use httpx.

Rules. Each call has one deadline, because httpx's own timeouts limit only single reads, and a slow body would never
exceed them. The client reads a response up to a limit, follows no redirect and decompresses nothing. Every exception of
httpx becomes an ExchangeError. This module never retries, because schedule.py decides when to retry.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import httpx
import trio

from sidecar import __version__
from sidecar.authorities import Authorities, public_authorities
from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.outbound import Failure, certificate_advice, http_transport, needs_trust, network_error, proxy_for
from sidecar.sts import wire as sts
from sidecar.sts.endpoint import signing_region
from sidecar.sts.errors import Operation
from sidecar.sts.expiration import sts_time
from sidecar.sts.request import ExchangeRequest, endpoint_of
from sidecar.sts.settings import StsSettings
from sidecar.token import Token

ATTEMPT_SECONDS = 10.0
"""Deadline for one whole call: DNS, connect, TLS, request and response."""

CONNECT_SECONDS = 3.0
"""
Timeout for opening a connection. STS is usually in the same region, so a slower connect means that packets are dropped.
"""

_TIMEOUTS = {"timeout": httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS).as_dict()}
"""The timeouts of each request, in the form that httpx's transports accept."""

MAX_REPLY_BYTES = 256 * 1024
"""Maximum size of a response body. Responses are 1 to 3 KiB long; AWS documents no maximum for session tokens."""


class ExchangeResult(NamedTuple):
    """New credentials, and the time on STS's clock (None if the response does not show it)."""

    credentials: Credentials
    sts_date: datetime | None


class Call(NamedTuple):
    """The outcome of a call to STS. `code` is `success` or the error's code. `ended_at` is on the monotonic clock."""

    code: str
    http_status: int | None
    ended_at: float
    seconds: float


Exchange = Callable[[ExchangeRequest, Token], Awaitable[ExchangeResult]]
"""
The type of `StsClient.exchange`, for callers that do not depend on the client.

Raises ExchangeError if STS returns no credentials.
"""


class StsClient:
    """A client of one STS endpoint, used as an async context manager. It keeps no connection open between exchanges."""

    def __init__(
        self,
        url: str,
        *,
        region: str | None = None,
        ca_bundle: str | None = None,
        authorities: Authorities | None = None,
        app_id: str | None = None,
    ) -> None:
        """
        Create the client.

        Raises ConfigurationError if the CA bundle or the proxy setting is invalid.

        `region` is the endpoint's region, which only a role chain needs. `authorities` come from another client,
        because they take nearly all of a client's memory (0.7 MiB). Without `authorities`, the client trusts the file
        `ca_bundle`, or else the public authorities.
        """
        self.url = url
        self._region = region
        self._ca_bundle = ca_bundle
        self.authorities = authorities or (_authorities(ca_bundle) if needs_trust(url) else None)
        self._trust = None if self.authorities is None else self.authorities.context
        self._transport = http_transport(url, self._trust)
        self._headers = {**sts.HEADERS, "User-Agent": _user_agent(app_id)}
        parts = urlsplit(url)
        self._host = f"{parts.netloc} (through {parts.scheme.upper()}_PROXY)" if proxy_for(url) else parts.netloc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def exchange(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        """
        Exchange `token` for credentials of the role, or of the last role of its chain.

        Raises ExchangeError if STS returns no credentials. If a step of the chain failed, the error contains the number
        of that step.
        """
        await self._use_new_authorities()
        form = sts.assume_role_with_web_identity(
            role_arn=request.role_arn,
            session_name=request.session_name,
            token=token.raw,
            duration_seconds=request.duration_seconds,
            policy=request.policy,
            policy_arns=request.policy_arns,
        )
        reply = await self._call(Operation.ASSUME_ROLE_WITH_WEB_IDENTITY, form, request.role_arn)
        for number, step in enumerate(request.chain, 1):
            try:
                form = sts.assume_role(step)
                reply = await self._call(Operation.ASSUME_ROLE, form, step.role_arn, reply)
            except ExchangeError as error:
                raise error.in_step(number, step.role_arn) from error
        return reply

    async def _use_new_authorities(self) -> None:
        """Replace the transport if the authorities changed. Calls in progress keep the old transport."""
        if self.authorities is None:
            return
        await self.authorities.refresh()
        if self.authorities.context is not self._trust:
            self._trust = self.authorities.context
            self._transport = http_transport(self.url, self._trust)

    async def _call(
        self, operation: Operation, form: bytes, role_arn: str, before: ExchangeResult | None = None
    ) -> ExchangeResult:
        """Call STS once. The request is signed with the credentials of the call `before`, if there was one."""
        with _map_foreign_errors(self._host, self._ca_bundle), trio.fail_after(ATTEMPT_SECONDS):
            request = httpx.Request("POST", self.url, headers=self._headers, content=form, extensions=_TIMEOUTS)
            if before is not None:
                self._sign(request, form, before)
            response, body = await self._send(request)
        credentials = sts.read_reply(
            response.status_code,
            body,
            role_arn=role_arn,
            operation=operation,
            retry_after=response.headers.get("retry-after"),
            retry_after_milliseconds=response.headers.get("x-amz-retry-after"),
        )
        return ExchangeResult(credentials, _date(response.headers.get("date")))

    def _sign(self, request: httpx.Request, form: bytes, before: ExchangeResult) -> None:
        """Sign the request with the time on STS's clock if it is known, because this machine's clock may be wrong."""
        from sidecar.sts.signing import signature_headers  # noqa: PLC0415  only role chains need it

        at = sts_time(before.credentials.expires_at, before.sts_date) or datetime.now(UTC)
        region = signing_region(self._region or "")
        signed = {name: request.headers[name] for name in ("Host", "Content-Type")}
        request.headers.update(signature_headers(self.url, signed, form, before.credentials, region=region, at=at))

    async def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        body = bytearray()
        async with aclosing(await self._transport.handle_async_request(request)) as response:
            # If the loop ended early, httpx's nested generators would be left to the garbage collector. Cancelling the
            # read closes them in order.
            with trio.CancelScope() as reading:
                async for piece in response.aiter_raw():
                    if len(body) + len(piece) > MAX_REPLY_BYTES:
                        reading.cancel()
                    else:
                        body += piece
        if reading.cancel_called:
            raise _malformed(f"the response is longer than {MAX_REPLY_BYTES} bytes. Check whether a proxy changes it")
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _malformed(f"the response is encoded as {encoding[:12]!r}. Check whether a proxy changes it")
        return response, bytes(body)


def _authorities(ca_bundle: str | None) -> Authorities:
    if ca_bundle is None:
        return Authorities(public_authorities())
    from sidecar.ca_bundle import CaBundle  # noqa: PLC0415  only this setting needs it

    return CaBundle(ca_bundle)


def _user_agent(app_id: str | None) -> str:
    agent = f"irsa-sidecar/{__version__}"
    if app_id is None:
        return agent
    from sidecar.sts.user_agent import with_app_id  # noqa: PLC0415  only this setting needs it

    return with_app_id(agent, app_id)


_CHECK_PATH = "Check HTTPS_PROXY, network policies and firewalls"
"""The fix for a connection that fails between the Pod and STS."""


@contextmanager
def _map_foreign_errors(host: str, ca_bundle: str | None) -> Iterator[None]:
    try:
        yield
    except trio.TooSlowError as exc:
        raise _transport(
            "Timeout", f"{host} sent no complete response within {ATTEMPT_SECONDS:.0f} s. {_CHECK_PATH}"
        ) from exc
    except UnicodeError as exc:
        raise _transport("Unreachable", f"{host} is not a host name. Check AWS_ENDPOINT_URL_STS") from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
        raise _as_exchange_error(host, exc, ca_bundle) from exc


def _as_exchange_error(host: str, exc: Exception, ca_bundle: str | None) -> ExchangeError:
    failure, reason = network_error(exc)
    match failure:
        case Failure.TIMEOUT:
            return _transport("Timeout", f"{host} could not be reached in time ({type(exc).__name__}). {_CHECK_PATH}")
        case Failure.PROXY:
            return _transport(
                "Proxy", f"{host}: the proxy rejected the request ({reason}). Check HTTPS_PROXY and NO_PROXY"
            )
        case Failure.PROTOCOL:
            return _transport(
                "Unreachable",
                f"{host}: the connection was closed early, or the server does not speak HTTP. {_CHECK_PATH}",
            )
        case Failure.NAME:
            name, setting = ("the proxy's name", "HTTPS_PROXY") if "(through " in host else ("its name", "AWS_REGION")
            return _transport("Unreachable", f"{host}: {name} does not resolve ({reason}). Check {setting} and DNS")
        case Failure.CONNECTION:
            return _transport("Unreachable", f"{host}: {reason or 'the connection was lost'}. {_CHECK_PATH}")
        case Failure.TLS:
            advice = "Check that the server, or the proxy, speaks TLS at this address"
        case Failure.WRONG_NAME if _is_of_proxy(host, reason):
            advice = "It is the proxy's: set HTTPS_PROXY to a name that is in the proxy's certificate"
        case _:
            advice = certificate_advice(failure, ca_bundle)
    return _transport("Tls", f"{host}: {reason}. {advice}")


def _is_of_proxy(host: str, reason: str) -> bool:
    """Return whether OpenSSL's message is about a proxy's certificate. OpenSSL quotes the expected host name."""
    server, _, through = host.partition(" ")
    return bool(through) and f"'{urlsplit(f'//{server}').hostname}'" not in reason


def _transport(code: str, message: str) -> ExchangeError:
    return ExchangeError(code, message, NextStep.RETRY)


def _malformed(message: str) -> ExchangeError:
    return ExchangeError("MalformedReply", message, NextStep.RETRY)


def _date(header: str | None) -> datetime | None:
    """
    Return the time in a Date header, or None if the header is missing or does not have the form of RFC 9110, 5.6.7.

    Servers must send this form: `Sun, 06 Nov 1994 08:49:37 GMT`. `email.utils` could parse it too, but that module
    imports ten others.
    """
    found = _IMF_FIXDATE.fullmatch(header or "")
    if found is None:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None


_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def open_client(settings: StsSettings) -> StsClient:
    """
    Return a client for the STS in the settings.

    Raises ConfigurationError if a setting is invalid.
    """
    return StsClient(
        endpoint_of(settings), region=settings.region, ca_bundle=settings.ca_bundle, app_id=settings.app_id
    )
