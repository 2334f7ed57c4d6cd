"""
Define checks and findings, and run the checks of one group. Pure.

Rule: a check has *failed* if the application gets no credentials, now or later, or gets another role's credentials. A
*warning* means that credentials work now. A check is skipped if a check that it depends on failed or was skipped, so
a failure is rarely the consequence of another one.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

Facts = TypeVar("Facts")


class Status(Enum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Status of a check that was not made, or whose result cannot be determined from here. `observed` is the reason."""


class Finding(NamedTuple):
    """
    The result of one check.

    `observed` and `next_step` are sentences for people. They have no final full stop and hold no secrets.
    """

    status: Status
    observed: str
    next_step: str = ""


class Check(NamedTuple, Generic[Facts]):
    """
    One question about the facts for a group.

    `evaluate` returns None if the question does not apply. `after` names the checks that this check depends on.
    """

    name: str
    question: str
    evaluate: Callable[[Facts], Finding | None]
    after: tuple[str, ...] = ()


class Row(NamedTuple):
    """
    A finding, with its group, check, role and container.

    `role` is None if there is only one role or if the finding concerns no role. `container` is set only with --pod, for
    a finding about one container.
    """

    group: str
    check: str
    finding: Finding
    role: str | None = None
    container: str | None = None


def ok(observed: str) -> Finding:
    return Finding(Status.OK, observed)


def warning(observed: str, next_step: str) -> Finding:
    return Finding(Status.WARNING, observed, next_step)


def failed(observed: str, next_step: str) -> Finding:
    return Finding(Status.FAILED, observed, next_step)


def skipped(reason: str, next_step: str = "") -> Finding:
    return Finding(Status.SKIPPED, reason, next_step)


def _run_check(check: Check[Facts], facts: Facts) -> Finding | None:
    """
    Return the check's finding, or None if the check does not apply.

    Facts come from outside, so they can cause an unexpected error. The check then counts as skipped, so that the
    findings of the other checks remain visible.
    """
    try:
        return check.evaluate(facts)
    except Exception as exc:  # noqa: BLE001
        return skipped(describe_bug(exc))


NOT_CHECKED_BECAUSE = "not checked because of "
"""Beginning of the text for a check that was skipped because of another check. That check's name follows."""


def run_checks(checks: Sequence[Check[Facts]], facts: Facts) -> Iterator[tuple[str, Finding]]:
    """Yield the name and the finding of each check that applies, in order."""
    unavailable: set[str] = set()
    for check in checks:
        missing = unavailable.intersection(check.after)
        finding = skipped(f"{NOT_CHECKED_BECAUSE}{min(missing)}") if missing else _run_check(check, facts)
        if finding is not None:
            yield check.name, finding
            if finding.status in (Status.FAILED, Status.SKIPPED):
                unavailable.add(check.name)


def describe_bug(exc: BaseException) -> str:
    """Return a text with the type and the code line of an exception, without its message, which may hold a secret."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    trace, location = exc.__traceback__, "an unknown line"
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("sidecar."):
            location = f"{trace.tb_frame.f_globals['__name__']}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"this check failed with {type(exc).__name__} at {location}. Please report this bug"
