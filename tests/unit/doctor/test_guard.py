"""Test that no probe can block or crash doctor, and that no check can hide the findings of other checks."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.doctor import from_application as application_side
from sidecar.doctor import from_sidecar as sidecar_side
from sidecar.doctor import role_probes
from sidecar.doctor.finding import Check, Finding, Status, ok, run_checks
from sidecar.doctor.probes import caller as caller_probe
from sidecar.doctor.probes import endpoint as endpoint_probe
from sidecar.doctor.probes import environment as environment_probe
from sidecar.doctor.probes import issuer as issuer_probe
from sidecar.doctor.probes import network_path as network_path_probe
from sidecar.doctor.probes import settings as settings_probe
from sidecar.doctor.probes import token as token_probe
from sidecar.doctor.probes import trust as trust_probe
from sidecar.doctor.probes.guard import guarded, in_thread
from sidecar.doctor.report import Report
from tests.unit.doctor.set_up import examine, set_up

SECRET = "s3cret-that-must-not-be-shown"


async def raises_a_secret(*_: object, **__: object) -> None:
    raise ValueError(SECRET)


def raises_a_secret_in_a_thread(*_: object, **__: object) -> None:
    raise ValueError(SECRET)


async def test_guarded_returns_the_facts() -> None:
    async def probe() -> int:
        return 7

    assert await guarded(probe) == (7, "")


async def test_guarded_returns_the_reason_for_a_probe_that_hangs(autojump_clock: MockClock) -> None:
    facts, reason = await guarded(trio.sleep_forever, 5)
    assert facts is None
    assert reason.startswith("no result within 5 s")


async def test_guarded_abandons_a_thread_that_hangs(autojump_clock: MockClock) -> None:
    release = threading.Event()
    facts, reason = await guarded(in_thread(release.wait), 5)
    release.set()
    assert facts is None
    assert reason.startswith("no result within 5 s")


async def test_guarded_shows_only_type_and_line_of_an_error() -> None:
    facts, reason = await guarded(raises_a_secret)
    assert facts is None
    assert reason.startswith("this check failed with ValueError at sidecar.doctor.probes.guard:")
    assert SECRET not in reason
    result = await guarded(in_thread(environment_probe.collect, 7))
    assert result.facts is None
    assert "AttributeError at sidecar.doctor.probes.environment:" in result.reason


def test_check_that_raises_hides_no_other_finding() -> None:
    def bad(_: None) -> Finding:
        raise TypeError(SECRET)

    checks: tuple[Check[None], ...] = (
        Check("first", "", bad),
        Check("second", "", lambda _: ok("fine")),
        Check("third", "", bad, ("first",)),
    )
    found = dict(run_checks(checks, None))
    assert [found[name].status for name in ("first", "second", "third")] == [
        Status.SKIPPED,
        Status.OK,
        Status.SKIPPED,
    ]
    assert "TypeError" in found["first"].observed
    assert SECRET not in found["first"].observed


def texts_of(report: Report, group: str) -> str:
    return " ".join(row.finding.observed for row in report.rows if row.group == group)


SIDECAR_PROBES = {
    "settings": (settings_probe, "collect", raises_a_secret_in_a_thread),
    "token": (token_probe, "collect", raises_a_secret_in_a_thread),
    "issuer": (issuer_probe, "collect", raises_a_secret),
    "sts": (network_path_probe, "collect", raises_a_secret),
    "trust": (trust_probe, "collect", raises_a_secret),
    "endpoint": (endpoint_probe, "collect", raises_a_secret),
    "identity": (caller_probe, "collect", raises_a_secret),
}


@pytest.mark.parametrize("group", SIDECAR_PROBES)
async def test_failed_sidecar_probe_affects_only_its_group(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, raises = SIDECAR_PROBES[group]
    async with set_up(tmp_path) as at:
        monkeypatch.setattr(module, name, raises)
        report = await examine(at.environ)
    assert "ValueError" in texts_of(report, group)
    assert SECRET not in "".join(row.finding.observed for row in report.rows)
    assert any(row.finding.status is Status.OK for row in report.rows)


APPLICATION_PROBES = {
    "environment": (environment_probe, "collect", raises_a_secret_in_a_thread),
    "endpoint": (endpoint_probe, "collect", raises_a_secret),
    "identity": (caller_probe, "collect", raises_a_secret),
}


@pytest.mark.parametrize("group", APPLICATION_PROBES)
async def test_failed_application_probe_affects_only_its_group(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, raises = APPLICATION_PROBES[group]
    async with set_up(tmp_path) as at:
        monkeypatch.setattr(module, name, raises)
        report = await examine(at.application)
    assert "ValueError" in texts_of(report, group)
    assert SECRET not in "".join(row.finding.observed for row in report.rows)


HANGING_FILES: dict[str, tuple[object, str, Callable[..., object]]] = {
    "settings": (settings_probe, "collect", sidecar_side.examine),
    "token": (token_probe, "collect", sidecar_side.examine),
    "endpoint": (endpoint_probe, "_secret", sidecar_side.examine),
    "environment": (environment_probe, "collect", partial(application_side.examine, files=None)),
}


@pytest.mark.parametrize("group", HANGING_FILES)
async def test_files_on_a_volume_that_hangs_are_abandoned(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use a thread that really hangs, and a short deadline. The other probes need the real clock."""
    module, name, examine_side = HANGING_FILES[group]
    release = threading.Event()
    for side in (sidecar_side, role_probes, application_side, endpoint_probe):
        monkeypatch.setattr(side, "FILE_SECONDS", 0.5)
    async with set_up(tmp_path) as at:
        monkeypatch.setattr(module, name, lambda *_: release.wait())
        environ = at.application if examine_side is not sidecar_side.examine else at.environ
        report = await examine_side(environ, None)  # type: ignore[misc]
    release.set()
    assert isinstance(report, Report)
    assert "no result within" in texts_of(report, group)
