"""
Wait for the first credentials before a command starts, and show the reason for the wait.

Rule: a command does not start without credentials, because our message shows the reason and an SDK's error does not.
The wait ends early if only a person can fix the problem, or if the next attempt is too late.
"""

from collections.abc import Awaitable, Callable

import trio

from sidecar.console import remark
from sidecar.daemon.served_roles import ServedRole, ServedRoles
from sidecar.errors import SidecarError

WAIT_SECONDS = 15
"""Default of --wait: the time for which `exec` waits for the first credentials."""

CHECK_SECONDS = 0.2
"""Interval at which a waiting `exec` checks for credentials or a new error."""


async def wait_for_credentials(
    roles: ServedRoles, wait_seconds: float = WAIT_SECONDS, *, report: Callable[[str], object] = remark
) -> None:
    """
    Wait until every role has credentials. `report` is called with each new reason for the wait.

    The wait can exceed `wait_seconds` while a role without credentials makes its first attempt.

    Raises SidecarError with the reason after `wait_seconds`, or earlier if waiting does not help.
    """
    give_up_at = trio.current_time() + wait_seconds
    reported: str | None = None
    while not await _within(CHECK_SECONDS, roles.first_credentials):
        role = _waited_for(roles)
        if role is None:
            continue
        _check_that_waiting_helps(role, give_up_at, wait_seconds)
        if role.last_error_code != reported:
            reported = role.last_error_code
            remaining = max(give_up_at - trio.current_time(), 0.0)
            report(f"waiting up to {remaining:.0f} s for credentials of role {role.role_name!r}. {role.last_error}")


async def wait_for_attempts(roles: ServedRoles, wait_seconds: float = WAIT_SECONDS) -> None:
    """
    Wait until the first attempt of every role has succeeded or failed.

    Raises SidecarError if an attempt does not end in time.
    """
    if not await _within(wait_seconds, roles.first_attempts):
        failures = (role.last_error for role in roles if not role.first_attempt.is_set())
        raise SidecarError(f"no credentials within {wait_seconds:.0f} s: {next(failures)}")


async def _within(seconds: float, event: Callable[[], Awaitable[None]]) -> bool:
    with trio.move_on_after(seconds) as scope:
        await event()
    return not scope.cancelled_caught


def _waited_for(roles: ServedRoles) -> ServedRole | None:
    """Return the first role that has tried without success, or None."""
    return next((role for role in roles if role.snapshot is None and role.first_attempt.is_set()), None)


def _check_that_waiting_helps(role: ServedRole, give_up_at: float, wait_seconds: float) -> None:
    if role.needs_person:
        raise SidecarError(f"no credentials for role {role.role_name!r}, and waiting does not help: {role.last_error}")
    now, next_at = trio.current_time(), role.next_attempt_at
    if now >= give_up_at:
        raise SidecarError(f"no credentials within {wait_seconds:.0f} s: {role.last_error}")
    if next_at > give_up_at:
        raise SidecarError(
            f"no credentials within {wait_seconds:.0f} s: {role.last_error} The next attempt is in "
            f"{next_at - now:.0f} s",
            fix="Use --wait to wait longer",
        )
