"""
A finding: what was seen, whether that is well, and what to do next. Pure.

Rule: *wrong* is what keeps credentials from the application, will do so, or lets it be somebody else; a *warning* works
now. A check whose ground is missing finds nothing, so the first wrong thing is never a consequence of another one.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

Facts = TypeVar("Facts")


class Status(Enum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "failed"
    LEFT_OUT = "skipped"
    """Not looked at, or not to be known from here. `seen` says why."""


class Finding(NamedTuple):
    """`seen` and `next_step` are for a person: sentences without the full stop, and no secret in them."""

    status: Status
    seen: str
    next_step: str = ""


class Check(NamedTuple, Generic[Facts]):
    """One question. `judge` returns None where it does not arise; `after` names checks that it builds on."""

    name: str
    asks: str
    judge: Callable[[Facts], Finding | None]
    after: tuple[str, ...] = ()


class Row(NamedTuple):
    """
    A finding in its place.

    `role` is None where it is about no role, or about the only one; `container` where it is about no container of a
    Pod that is looked at from outside.
    """

    group: str
    check: str
    finding: Finding
    role: str | None = None
    container: str | None = None


def ok(seen: str) -> Finding:
    return Finding(Status.OK, seen)


def warning(seen: str, next_step: str) -> Finding:
    return Finding(Status.WARNING, seen, next_step)


def wrong(seen: str, next_step: str) -> Finding:
    return Finding(Status.WRONG, seen, next_step)


def left_out(why: str, next_step: str = "") -> Finding:
    return Finding(Status.LEFT_OUT, why, next_step)


_ADVICE = re.compile(
    r"(.+): ((?:add|check|choose|correct|did you|give|is the|it must|keep|leave|let|mount|name|put|read|remove|set|"
    r"shorten|start|unset|use|waiting|write)\b.+)",
    re.DOTALL,
)
"""How messages of ours end: what is to be done, after a colon."""


def split_advice(message: str) -> tuple[str, str]:
    """A message of ours as what was seen, and the next step, which is "" where it names none."""
    match = _ADVICE.fullmatch(message)
    if match is None:
        return message.removesuffix("."), ""
    return match[1], match[2][0].upper() + match[2][1:].removesuffix(".")


def _judge(check: Check[Facts], facts: Facts) -> Finding | None:
    """Facts come from outside. An error in one check must not hide the findings of the others."""
    try:
        return check.judge(facts)
    except Exception as exc:  # noqa: BLE001
        return left_out(fault(exc))


NO_GROUND = "not checked, because of "


def judged(checks: Sequence[Check[Facts]], facts: Facts) -> Iterator[tuple[str, Finding]]:
    """What each check finds, in order."""
    without_ground: set[str] = set()
    for check in checks:
        missing = without_ground.intersection(check.after)
        finding = left_out(f"{NO_GROUND}{min(missing)}") if missing else _judge(check, facts)
        if finding is not None:
            yield check.name, finding
            if finding.status in (Status.WRONG, Status.LEFT_OUT):
                without_ground.add(check.name)


def fault(exc: BaseException) -> str:
    """A fault of doctor's own as its type and place. Its text may hold a secret."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    trace, place = exc.__traceback__, "an unknown place"
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("sidecar."):
            place = f"{trace.tb_frame.f_globals['__name__']}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"this check failed with {type(exc).__name__} at {place}: please report it"
