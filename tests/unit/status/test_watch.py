"""Test the repeated report in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import ConfigurationError, KubernetesError, SidecarError
from sidecar.status.watch import Shown, Watch

WELL, FAILS = "every Pod has credentials", "a Pod has no credentials"


class Reports:
    """Reports, errors among them, and the times of their requests. A report is shown by its text."""

    def __init__(self, *results: SidecarError | str) -> None:
        self.results = list(results)
        self.times: list[float] = []
        self.shown: list[tuple[str, str]] = []

    async def look(self) -> Shown:
        self.times.append(trio.current_time())
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, SidecarError):
            raise result
        number = len(self.times)
        return Shown(lambda: f"report {number}", result == FAILS, 1_800_000_000.0)

    def show(self, shown: Shown) -> None:
        self.shown.append((shown.render(), str(shown.error or "")))


async def run(watch: Watch, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await watch.run()


async def test_report_is_repeated(autojump_clock: MockClock) -> None:
    reports = Reports(WELL)
    watch = Watch(reports.look, reports.show, 5)
    assert watch.exit_status == 1
    await run(watch, 12)
    assert reports.times == [0, 5, 10]
    assert [text for text, _ in reports.shown] == ["report 1", "report 2", "report 3"]
    assert watch.exit_status == 0


async def test_error_leaves_the_last_report(autojump_clock: MockClock) -> None:
    reports = Reports(WELL, KubernetesError("the API server was not reached"), WELL)
    watch = Watch(reports.look, reports.show, 5)
    await run(watch, 6)
    assert reports.shown[-1] == ("report 1", "the API server was not reached.")
    assert watch.exit_status == 1
    reports.results = [WELL]
    await run(watch, 1)
    assert reports.shown[-1] == ("report 3", "")
    assert watch.exit_status == 0


@pytest.mark.parametrize(
    "results", [[KubernetesError("no")], [WELL, ConfigurationError("the login is unusable")]], ids=["first", "later"]
)
async def test_error_that_no_repetition_fixes_ends_the_watch(
    autojump_clock: MockClock, results: list[SidecarError | str]
) -> None:
    reports = Reports(*results)
    with pytest.raises(SidecarError):
        await run(Watch(reports.look, reports.show, 5), 60)


async def test_last_report_decides_the_exit_status(autojump_clock: MockClock) -> None:
    reports = Reports(WELL, FAILS)
    watch = Watch(reports.look, reports.show, 5)
    await run(watch, 6)
    assert watch.exit_status == 1


async def test_redraw_shows_the_last_report_again(autojump_clock: MockClock) -> None:
    reports = Reports(WELL)
    watch = Watch(reports.look, reports.show, 5)
    watch.redraw()
    assert reports.shown == []
    await run(watch, 1)
    watch.redraw()
    assert [text for text, _ in reports.shown] == ["report 1", "report 1"]
    assert len(reports.times) == 1
