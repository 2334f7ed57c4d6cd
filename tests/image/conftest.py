"""Provide the image that `make image` built, run by docker or podman. `make test` does not run these tests."""

import faulthandler
import os

import pytest

from tests.image.engine import Engine, find_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    image = os.environ.get("IMAGE")
    if image is None:
        pytest.fail("IMAGE is not set. Run `make image`, which builds the image and runs these tests.")
    return Engine(find_engine(), image)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remove the time limit, because the tests start and stop images for minutes."""
    faulthandler.cancel_dump_traceback_later()
