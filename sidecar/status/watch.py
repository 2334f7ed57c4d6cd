"""
Repeat a report until a person stops it.

Rule: an error after the first report does not end the watch, because the API server may be restarting. The last report
then stays, with its time and the error.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from sidecar.errors import ConfigurationError, SidecarError


class Shown(NamedTuple):
    """
    The last report, and the error after it, if any.

    `render` returns its text for the present size of the terminal. `fails` is true if a Pod has no valid credentials.
    `made_at` is in Unix seconds.
    """

    render: Callable[[], str]
    fails: bool
    made_at: float
    error: SidecarError | None = None


Look = Callable[[], Awaitable[Shown]]
"""
The type of a function that makes a report.

Raises SidecarError if the Pods cannot be read.
"""


class Watch:
    """A repeated report, which `show` writes."""

    def __init__(self, look: Look, show: Callable[[Shown], None], interval_seconds: float) -> None:
        self._look = look
        self._show = show
        self._interval_seconds = interval_seconds
        self._last: Shown | None = None

    @property
    def exit_status(self) -> int:
        """The exit status: 1 if the last report has a problem or is old, or if there is none yet."""
        return int(self._last is None or self._last.fails or self._last.error is not None)

    async def run(self) -> None:
        """
        Repeat the report until cancelled.

        Raises SidecarError if the first report cannot be made, and ConfigurationError if any report cannot.
        """
        while True:
            self._last = await self._next()
            self._show(self._last)
            await trio.sleep(self._interval_seconds)

    def redraw(self) -> None:
        """Write the last report again, for example after a change of the terminal's size."""
        if self._last is not None:
            self._show(self._last)

    async def _next(self) -> Shown:
        try:
            return await self._look()
        except ConfigurationError:
            raise
        except SidecarError as error:
            if self._last is None:
                raise
            return self._last._replace(error=error)
