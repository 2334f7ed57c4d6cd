"""
Keep a background task running: report each exception that the task raises, and start the task again after a pause.

Rule: every task that runs beside the listeners runs in `keep_running`. An exception that reached the nursery would end
the process, which still serves valid credentials.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

RESTART_SECONDS = 10.0
"""Pause before a task starts again after an exception. It saves CPU, and is much shorter than a session."""


async def keep_running(run: Callable[[], Awaitable[None]], report: Callable[[Exception], None]) -> None:
    """
    Run a task until it returns. When the task raises, call `report` with the exception, and start the task again.

    Cancellation ends the task as usual. If `report` itself raises, that exception is ignored.
    """
    while True:
        try:
            return await run()
        except Exception as exc:  # noqa: BLE001  no exception of the task may end the process
            error: Exception | None = exc
        except BaseExceptionGroup as group:
            # The task was cancelled while one of its child tasks raised. The cancellation must continue.
            error, rest = group.split(Exception)
            if rest is not None:
                _report(error, report)
                raise rest from None
        _report(error, report)
        await trio.sleep(RESTART_SECONDS)


def _report(error: Exception | None, report: Callable[[Exception], None]) -> None:
    if error is not None:
        with suppress(Exception):  # an error of the log cannot be reported anywhere else
            report(error)
