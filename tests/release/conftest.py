"""Provide the release in dist/, which `make release` built, and its keys. `make test` does not run these tests."""

import faulthandler
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from release.check import Release, version_of
from release.go_programs import COSIGN, HELM_4, built
from release.keys import chart_public_key, cosign_key, cosign_public_key
from release.signing import Signer, trust_key

KEYS = Path(os.environ.get("RELEASE_KEYS", ".release-keys")).resolve()

FOLDER = Path(os.environ.get("RELEASE", "dist")).resolve()


@pytest.fixture(scope="session")
def release() -> Release:
    """Return the release in dist/. Tests do not change it."""
    if not FOLDER.exists():
        pytest.fail(f"{FOLDER} is missing. `make release` builds it.")
    verifier = trust_key(built(COSIGN), cosign_public_key(KEYS))
    architectures = tuple(os.environ.get("ARCHITECTURES", "amd64,arm64").split(","))
    return Release(FOLDER, version_of(FOLDER), verifier, built(HELM_4), chart_public_key(KEYS), architectures)


@pytest.fixture
def copied(release: Release, tmp_path: Path) -> Release:
    """Return a copy of the release. Its files are hard links, so a test replaces a file instead of writing into it."""
    shutil.copytree(release.folder, tmp_path / "dist", copy_function=os.link)
    return replace(release, folder=tmp_path / "dist")


@pytest.fixture(scope="session")
def signer() -> Signer:
    """Return a signer with the key of the release, for tests that sign a changed release."""
    return Signer(built(COSIGN), cosign_key(KEYS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remove the time limit, because the tests build images for minutes."""
    faulthandler.cancel_dump_traceback_later()
