"""
Apply the controls to the running services.

Rule: an effect changes only what a real fault changes: the tokens, the keys, the responses of STS, or a clock. It
changes no credentials of the daemon. Effects on tokens, keys and STS also make the next exchange due, because otherwise
the daemon would meet the fault only at its refresh point, after half an hour. The end of a fault does not do this, so
that a person sees when the daemon recovers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from sidecar.clock import Clock
from sidecar.local.control_panel import Effect
from sidecar.local.events import Emit
from sidecar.local.issuer import Issuer, rotate_once
from sidecar.local.kubelet import Issue, TokenVolume, renew
from sidecar.local.pod_tokens import WRONG_AUDIENCE, PodTokens, TokenFault
from sidecar.local.sts import Outage, Sts
from sidecar.oidc.sts_rejection import StsRejection

AHEAD_SECONDS = 2 * 3600.0

STS_UNAVAILABLE = partial(
    StsRejection,
    "ServiceUnavailable",
    "The request has failed due to a temporary failure of the server.",
    status=503,
    reason="a control took STS out of service",
)
STS_THROTTLING = partial(StsRejection, "Throttling", "Rate exceeded", reason="a control throttles STS")
"""Functions that return the errors of AWS for a service that is out of service, and for too many requests."""


def sts_silent() -> None:
    """Return None, so that STS accepts the request and sends no response."""


class MovableClock:
    """A clock whose wall time can be ahead of the real time."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self.ahead_seconds = 0.0
        self.clock = Clock(self._wall, real.monotonic)

    def _wall(self) -> float:
        return self._real.wall() + self.ahead_seconds


@dataclass(slots=True)
class Machinery:
    """
    The running parts that the controls change.

    `refresh` makes the daemon's next exchange due at once. The command replaces this function before the daemon runs.
    """

    issuer: Issuer
    generate: Callable[[], RSAPrivateKey]
    tokens: PodTokens
    volume: TokenVolume
    sts: Sts
    clock: Clock
    emit: Emit
    refresh: Callable[[], None] = lambda: None
    daemon_clock: MovableClock = field(init=False)

    def __post_init__(self) -> None:
        self.daemon_clock = MovableClock(self.clock)

    def effects(self) -> Mapping[str, Effect]:
        """Return the effect of each control, by the control's name."""
        return MappingProxyType(
            {
                "refresh": Effect(self._refresh),
                "rotate-key": Effect(self._rotate_key),
                "expire-token": Effect(self._expire_token, partial(self._set_tokens, TokenFault())),
                "wrong-audience": self._token_effect(TokenFault(audience=WRONG_AUDIENCE)),
                "wrong-service-account": self._token_effect(
                    TokenFault(service_account=self.tokens.wrong_service_account())
                ),
                "sts-unavailable": self._sts_effect(STS_UNAVAILABLE),
                "sts-silent": self._sts_effect(sts_silent),
                "sts-throttling": self._sts_effect(STS_THROTTLING),
                "clock-ahead": Effect(partial(self._set_clock, AHEAD_SECONDS), partial(self._set_clock, 0.0)),
            }
        )

    def _token_effect(self, fault: TokenFault) -> Effect:
        return Effect(partial(self._set_tokens, fault, refreshes=True), partial(self._set_tokens, TokenFault()))

    def _sts_effect(self, outage: Outage) -> Effect:
        return Effect(partial(self._set_sts, outage, refreshes=True), partial(self._set_sts, None))

    async def _refresh(self) -> None:
        self.refresh()

    async def _rotate_key(self) -> None:
        await rotate_once(self.issuer, emit=partial(self.emit, component="issuer"), generate=self.generate)
        self._renew(self.tokens.issue)
        self.refresh()

    async def _expire_token(self) -> None:
        self._renew(self.tokens.issue_expired)
        self.tokens.fault = TokenFault(is_available=False)
        self.refresh()

    async def _set_tokens(self, fault: TokenFault, *, refreshes: bool = False) -> None:
        before, self.tokens.fault = self.tokens.fault, fault
        try:
            self._renew(self.tokens.issue)
        except OSError:
            self.tokens.fault = before
            raise
        if refreshes:
            self.refresh()

    async def _set_sts(self, outage: Outage | None, *, refreshes: bool = False) -> None:
        self.sts.set_outage(outage)
        if refreshes:
            self.refresh()

    async def _set_clock(self, seconds: float) -> None:
        self.daemon_clock.ahead_seconds = seconds

    def _renew(self, issue: Issue) -> None:
        renew(self.volume, issue, self.clock.wall(), partial(self.emit, component="kubelet"))
