"""Save the results of a run for the table, and report the clients that did not run."""

import faulthandler
import json
from typing import Any

import pytest

from tests.sdk.plan import IS_WHOLE, left_out
from tests.sdk.table import RUN

_results: list[dict[str, Any]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remove the time limit, because SDKs pause between their attempts."""
    faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == "sdk" and report.when == "call":
            assert isinstance(value, (list, tuple))
            client, version, case = value
            _results.append({"client": client, "version": version, "case": case, "passed": report.passed})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save the results of a whole run, in the process that collects all its tests."""
    if IS_WHOLE and not hasattr(session.config, "workerinput"):
        RUN.parent.mkdir(exist_ok=True)
        RUN.write_text(json.dumps(_results, indent=1), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    names = list(left_out())
    if names:
        terminalreporter.write_line(f"SDKs left out: {', '.join(names)}. `make test-sdks` builds and runs them all.")
