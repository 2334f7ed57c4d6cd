"""The image that `make image` built, run by docker or podman. Not part of `make test`."""

import os

import pytest

from tests.image.engine import Engine, find_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    image = os.environ.get("IMAGE")
    if image is None:
        pytest.fail("Which image? `make image` builds it and runs these tests.")
    return Engine(find_engine(), image)
