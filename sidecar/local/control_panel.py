"""
Start and end the controls of the running services.

Rule: a fault ends after its time even if nobody watches. If the panel cannot end a fault, for example because a disk is
full, it tries again until it succeeds.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import trio

from sidecar.local.controls import (
    ActiveFault,
    ActiveFaults,
    Control,
    ended_by,
    is_active,
    with_fault,
    without_fault,
)
from sidecar.local.events import Emit

RETRY_SECONDS = 5.0
"""Pause before the panel tries again to end a fault."""


async def _nothing() -> None:
    pass


class Effect(NamedTuple):
    """The functions that start and end one control. Both may raise OSError. An action has no `end`."""

    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]] = _nothing


class ControlPanel:
    """The controls with their effects, and the faults in progress. `run` ends faults in time."""

    def __init__(self, effects: Mapping[str, Effect], *, monotonic: Callable[[], float], emit: Emit) -> None:
        self._effects = effects
        self._monotonic = monotonic
        self._emit = emit
        self._lock = trio.Lock()
        self._changed = trio.Event()
        self.active: ActiveFaults = {}

    async def start(self, control: Control) -> bool:
        """Start the control. Return whether it succeeded; if not, an event contains the reason."""
        async with self._lock:
            before = self.active.get(control.part)
            if before is not None and control.seconds and not await self._end(before, "another control"):
                return False
            if not await self._succeeds(control, self._effects[control.name].begin):
                return False
            if control.seconds:
                self._set(with_fault(self.active, control, self._monotonic()))
            self._emit("control_started", control=control.name, seconds=control.seconds or None)
            return True

    async def end(self, control: Control) -> bool:
        """End the fault of this control if it is in progress. Return whether it has ended."""
        async with self._lock:
            if not is_active(self.active, control):
                return True
            return await self._end(self.active[control.part], "person")

    async def run(self) -> None:
        """End each fault when its time is over, until cancelled."""
        while True:
            changed = self._changed
            with trio.move_on_at(min((fault.ends_at for fault in self.active.values()), default=math.inf)):
                await changed.wait()
            async with self._lock:
                for fault in ended_by(self.active, self._monotonic()):
                    await self._end(fault, "time")

    async def _end(self, fault: ActiveFault, reason: str) -> bool:
        control = fault.control
        if not await self._succeeds(control, self._effects[control.name].end):
            retry = fault.control, self._monotonic() + RETRY_SECONDS
            self._set({**self.active, control.part: ActiveFault(*retry)})
            return False
        self._set(without_fault(self.active, control))
        self._emit("control_ended", control=control.name, reason=reason)
        return True

    async def _succeeds(self, control: Control, run: Callable[[], Awaitable[None]]) -> bool:
        try:
            await run()
        except OSError as exc:
            self._emit("control_failed", control=control.name, reason=str(exc))
            return False
        return True

    def _set(self, active: ActiveFaults) -> None:
        self.active = active
        self._changed.set()
        self._changed = trio.Event()
