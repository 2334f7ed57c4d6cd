"""Provide the commands of the policy engines. Only `make test-policies` runs these tests."""

import faulthandler
from pathlib import Path

import pytest

from release.go_programs import built
from tests.policies.tools import GATOR, KYVERNO


@pytest.fixture(scope="session")
def gator() -> Path:
    return built(GATOR)


@pytest.fixture(scope="session")
def kyverno() -> Path:
    return built(KYVERNO)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remove the time limit, because the first test of each engine builds its command."""
    faulthandler.cancel_dump_traceback_later()
