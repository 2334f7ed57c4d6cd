"""Exchange the token at STS once, as the daemon does."""

from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit

from sidecar.client.exchange import DEFAULT_DURATION_SECONDS
from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError
from sidecar.role import Role
from sidecar.sts.client import open_client
from sidecar.sts.request import endpoint_of, request_for
from sidecar.sts.settings import StsSettings
from sidecar.token import Token


class Outcome(NamedTuple):
    """
    The result of an exchange: `credentials` or `error`.

    `requested_seconds` is the requested session duration. `seconds` is the duration of a successful exchange.
    """

    sts_host: str
    requested_seconds: int
    credentials: Credentials | None = None
    error: ExchangeError | None = None
    seconds: float = 0.0


async def exchange(role: Role, settings: StsSettings, token: Token) -> Outcome:
    """
    Return the result of the exchange. An error from STS is part of the result.

    Raises ConfigurationError if a setting of STS is invalid.
    """
    seconds = role.duration_seconds or DEFAULT_DURATION_SECONDS
    request = request_for(role, token, seconds)
    host = urlsplit(endpoint_of(settings)).netloc
    began = perf_counter()
    async with open_client(settings) as client:
        try:
            result = await client.exchange(request, token)
        except ExchangeError as error:
            return Outcome(host, seconds, error=error)
    return Outcome(host, seconds, result.credentials, seconds=perf_counter() - began)
