"""Provide Helm 3 and Helm 4, built from their Go modules. Not part of `make test`: see `make test-chart`."""

import faulthandler

import pytest

from release.go_programs import HELM_3, HELM_4, GoProgram, built
from tests.chart.rendering import Helm


@pytest.fixture(scope="session", params=[HELM_3, HELM_4], ids=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Helm:
    """Return a Helm. The first test of each builds it, which takes minutes, so it has no time limit."""
    program: GoProgram = request.param
    faulthandler.cancel_dump_traceback_later()
    return Helm(built(program))
