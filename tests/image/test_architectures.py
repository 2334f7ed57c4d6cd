"""Check that every locked package has a wheel for both architectures of the images."""

import subprocess
import sys
from pathlib import Path

import pytest

LOCKS = Path(__file__).parents[2] / "requirements"

PYTHON = "3.13"
"""The version of Python in the default base image."""

GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
"""The platform tags of wheels that work with the glibc of Debian 13 and of later systems (PEP 600)."""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("lock", ["build", "run", "tools"])
def test_every_locked_package_has_a_wheel(lock: str, machine: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", f"--dest={tmp_path}"]
    command += [f"--platform={name}_{machine}" for name in GLIBC]
    done = subprocess.run([*command, f"--requirement={LOCKS / lock}.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.whl"))
