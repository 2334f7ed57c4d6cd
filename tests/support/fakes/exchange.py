"""Fake STS at the client's interface: return credentials or raise an error, and record the requests."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import trio

from sidecar.credentials import Credentials
from sidecar.errors import ExchangeError, NextStep
from sidecar.sts.client import ExchangeResult
from sidecar.sts.request import ExchangeRequest
from sidecar.token import Token

ROLE_ARN = "arn:aws:iam::111122223333:role/cart"

TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
"""The message in STS's ValidationError about a session that is too long."""


class FakeExchange:
    """
    An STS that grants sessions of `life_seconds`, or raises `error`. Its clock is `now` plus `clock_error`.

    With `sends_date` a response has a Date header. `called_at` has trio's time of each request. `requests` and
    `tokens` have the content of each request.
    """

    def __init__(self, now: Callable[[], float], *, life_seconds: float = 3600) -> None:
        self._now = now
        self.life_seconds = life_seconds
        self.clock_error = 0.0
        self.sends_date = True
        self.error: Exception | None = None
        self.latency_seconds = 0.0
        self.called_at: list[float] = []
        self.requests: list[ExchangeRequest] = []
        self.tokens: list[str] = []

    async def __call__(self, request: ExchangeRequest, token: Token) -> ExchangeResult:
        self.called_at.append(trio.current_time())
        self.requests.append(request)
        self.tokens.append(token.raw)
        await trio.sleep(self.latency_seconds)
        if self.error is not None:
            raise self.error
        return ExchangeResult(self.credentials(), self._date() if self.sends_date else None)

    def credentials(self) -> Credentials:
        number = len(self.called_at)
        return Credentials(
            access_key_id=f"ASIAFAKE{number:04d}",
            secret_access_key=f"secret-{number}",
            session_token=f"session-{number}",
            expires_at=self._date() + timedelta(seconds=self.life_seconds),
            role_arn=ROLE_ARN,
            account_id="111122223333",
        )

    def _date(self) -> datetime:
        return datetime.fromtimestamp(int(self._now() + self.clock_error), UTC)


def refusal(code: str, next_step: NextStep, *, retry_after_seconds: float | None = None) -> ExchangeError:
    message = f"{code} says the fake"
    return ExchangeError(code, message, next_step, status=400, retry_after_seconds=retry_after_seconds)
