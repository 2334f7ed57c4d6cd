"""Provide the botocore client that the tests in this folder share."""

from collections.abc import Iterator

import pytest

from tests.against.botocore.peer import Botocore


@pytest.fixture(scope="module")
def peer() -> Iterator[Botocore]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_USE_FIPS_ENDPOINT"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "no-such-file")
        yield Botocore()
