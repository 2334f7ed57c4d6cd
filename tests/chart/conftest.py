"""Provide Helm 3 and Helm 4, built from their Go modules. Only `make test-chart` runs these tests."""

import faulthandler

import pytest

from release.go_programs import HELM_3, HELM_4, GoProgram, built
from tests.chart.rendering import Helm


@pytest.fixture(scope="session", params=[HELM_3, HELM_4], ids=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Helm:
    return _helm(request.param)


@pytest.fixture(scope="session")
def helm_4() -> Helm:
    """Return Helm 4. Tests of many Kubernetes versions use only one Helm."""
    return _helm(HELM_4)


def _helm(program: GoProgram) -> Helm:
    """Return a Helm without a cluster. The first test waits minutes for the build, so the tests have no time limit."""
    faulthandler.cancel_dump_traceback_later()
    return Helm(built(program))
