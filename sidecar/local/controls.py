"""
List the controls of the local services: actions and faults that a person starts to see how the daemon reacts. Pure.

Rule: every fault ends after a limited time. A part of the services has at most one fault, so a new fault of a part ends
the previous one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FAULT_SECONDS = 60.0
"""Duration of a fault. The daemon retries several times within it, and a person who watches does not wait long."""


@dataclass(frozen=True, slots=True)
class Control:
    """
    One control. `part` is the part of the services that it changes, and `effect` describes the change.

    `promise` describes the daemon's reaction. `seconds` is the duration of a fault, or 0 for an action.
    """

    name: str
    label: str
    part: str
    effect: str
    promise: str
    seconds: float = FAULT_SECONDS


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault in progress. It ends at `ends_at`, in monotonic seconds."""

    control: Control
    ends_at: float


ActiveFaults = Mapping[str, ActiveFault]
"""The faults in progress, by the part of the services."""

_KEEPS = "The daemon serves the credentials that it has, and retries."

CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        control.name: control
        for control in (
            Control(
                "refresh",
                "Refresh now",
                "daemon",
                "The daemon exchanges the token now, and not at its refresh point.",
                "New credentials replace the old ones. The old ones stay valid until they expire.",
                seconds=0.0,
            ),
            Control(
                "rotate-key",
                "Rotate the signing key",
                "issuer",
                "The issuer signs with a new key, and the kubelet gets a new token.",
                "STS fetches the new public key. The daemon gets new credentials.",
                seconds=0.0,
            ),
            Control(
                "expire-token",
                "Expire the token",
                "token",
                "The token in the volume has expired, and the kubelet gets no new token.",
                "The daemon serves the credentials that it has, and waits for a new token.",
            ),
            Control(
                "wrong-audience",
                "Wrong audience",
                "token",
                "The kubelet requests tokens for the audience of the API server.",
                _KEEPS,
            ),
            Control(
                "wrong-service-account",
                "Wrong service account",
                "token",
                "The token belongs to another service account, which the trust policy does not allow.",
                _KEEPS,
            ),
            Control(
                "sts-unavailable",
                "STS out of service",
                "sts",
                "STS responds to every request with the status 503.",
                _KEEPS,
            ),
            Control(
                "sts-silent",
                "STS does not respond",
                "sts",
                "STS accepts every connection, and sends no response.",
                "The daemon serves the credentials that it has. Each attempt ends after ten seconds, and it retries.",
            ),
            Control(
                "sts-throttling",
                "Throttle STS",
                "sts",
                "STS rejects every request because of too many requests.",
                "The daemon serves the credentials that it has, and retries later than after other errors.",
            ),
            Control(
                "clock-ahead",
                "Clock two hours ahead",
                "clock",
                "The clock of the daemon shows a time two hours ahead of STS.",
                "The daemon gets new credentials within ten seconds. It computes their lifetime from the clock of STS.",
            ),
        )
    }
)
"""All controls by name, in the order of the page."""


def with_fault(active: ActiveFaults, control: Control, now: float) -> ActiveFaults:
    """Return the faults after a new fault begins at `now`. The new fault replaces the fault of the same part."""
    return {**active, control.part: ActiveFault(control, now + control.seconds)}


def without_fault(active: ActiveFaults, control: Control) -> ActiveFaults:
    return {part: fault for part, fault in active.items() if fault.control != control}


def is_active(active: ActiveFaults, control: Control) -> bool:
    fault = active.get(control.part)
    return fault is not None and fault.control == control


def ended_by(active: ActiveFaults, now: float) -> tuple[ActiveFault, ...]:
    """Return the faults whose time is over at `now`."""
    return tuple(fault for fault in active.values() if fault.ends_at <= now)
