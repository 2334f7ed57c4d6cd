"""Install the kubectl plugin of the release in dist/ with krew itself, and run it as kubectl does."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from release.archive import entries
from release.check import version_of
from release.go_programs import KREW, VALIDATE_KREW_MANIFEST, built
from release.plugin import LAUNCHER, MANIFEST, PYTHONS, archive_name, archive_names
from tests.release.conftest import FOLDER

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def run(*command: str | Path, **environ: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_manifest_is_valid_for_krew() -> None:
    """Skip the installation of all platforms, which would download the published files."""
    assert "structural validation OK" in run(
        built(VALIDATE_KREW_MANIFEST), "-manifest", FOLDER / MANIFEST, "-skip-install"
    )


def test_archive_has_compiled_modules_for_every_python() -> None:
    """Check msgspec, which has no module for several versions of Python."""
    for name in archive_names(version_of(FOLDER)):
        names = {entry.path for entry in entries((FOLDER / name).read_bytes())}
        found = {found[1] for path in names if (found := re.search(r"msgspec/_core\.cpython-3(\d+)-", path))}
        assert {f"3.{minor}" for minor in found} == set(PYTHONS), name


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the folder in which krew links the plugin."""
    architecture = MACHINES.get(platform.machine())
    if architecture is None:
        pytest.skip("the release has no plugin for this machine")
    archive = FOLDER / archive_name(version_of(FOLDER), sys.platform, architecture)
    run(built(KREW), "install", f"--manifest={FOLDER / MANIFEST}", f"--archive={archive}", KREW_ROOT=str(tmp_path))
    return tmp_path / "bin"


def test_installed_plugin_runs(installed: Path) -> None:
    path = f"{installed}:{os.environ['PATH']}"
    assert run(installed / LAUNCHER, "--version", PATH=path) == f"irsa-sidecar {version_of(FOLDER)}\n"
    assert "usage:" in run(installed / LAUNCHER, "audit", "--help", PATH=path)


@pytest.mark.parametrize("module", ["cryptography.hazmat.bindings._rust", "msgspec", "lightkube", "sidecar.audit.run"])
def test_compiled_modules_of_the_plugin_are_for_this_python(installed: Path, module: str) -> None:
    packages = (installed / LAUNCHER).resolve().parent / "packages"
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); import {module} as found; print(found.__file__)"
    assert run(sys.executable, "-I", "-c", code).startswith(str(packages))
