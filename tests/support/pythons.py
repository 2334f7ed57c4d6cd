"""
Run the unit tests on every other Python that this machine has: `python -m tests.support.pythons`.

Versions of Python check certificates, parse times and warn differently. Python 3.13 rejects authorities that 3.12
accepts, and the image may have another Python than the developer's machine. Each Python gets its own virtual
environment with the same locked packages.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "dev.txt"
OLDEST = (3, 11)

TESTS = (
    "tests/unit",
    "tests/faults/test_time_faults.py",
    "tests/faults/test_token_faults.py",
    "tests/end_to_end/test_rare_paths.py",
)
"""The tests whose result may depend on the Python. Most other tests run a process, or compare bytes."""

Version = tuple[int, int]


class Python(NamedTuple):
    """An interpreter of this machine."""

    version: Version
    path: Path

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def candidates() -> Iterator[Path]:
    """Yield paths that may be a Python: first pyenv's versions, then the programs in PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.*/bin/python3"), reverse=True)
    for directory in os.get_exec_path():
        yield from sorted(Path(directory).glob("python3.[0-9]*"))


def asked(path: Path) -> Python | None:
    """Return the interpreter at `path`, or None if no released CPython responds, such as for a broken pyenv shim."""
    code = "import ssl, venv, sys; print(*sys.version_info[:2], sys.version_info.releaselevel, sys.implementation.name)"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match done.stdout.split():
        case [major, minor, "final", "cpython"] if done.returncode == 0:
            return Python((int(major), int(minor)), path)
    return None


def found() -> list[Python]:
    """Return one interpreter for each supported version, except the version of this process."""
    by_version: dict[Version, Python] = {}
    for path in candidates():
        python = asked(path)
        if python is not None and OLDEST <= python.version != sys.version_info[:2]:
            by_version.setdefault(python.version, python)
    return [by_version[version] for version in sorted(by_version)]


def environment_of(python: Python) -> Path:
    """
    Return the Python of a virtual environment with the locked packages.

    Create the environment if it is missing or the lock file changed.
    """
    folder = ROOT / f".venv-{python}"
    stamp, digest = folder / "lock", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    inside = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == digest and asked(inside)):
        subprocess.run([python.path, "-m", "venv", "--clear", folder], check=True)
        install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)]
        subprocess.run([inside, "-m", "pip", *install], check=True)
        stamp.write_text(digest)
    return inside


def passes(python: Python) -> bool:
    """Return whether the tests pass on that Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [str(environment_of(python)), "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *TESTS]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--require", default="", help="run only these versions, and fail if one is missing: 3.12,3.13")
    required = [version for version in parser.parse_args().require.split(",") if version]
    pythons = [python for python in found() if not required or str(python) in required]
    here = ".".join(map(str, sys.version_info[:2]))
    names = [here, *map(str, pythons)]
    others = ", ".join(map(str, pythons)) or "no other is on this machine"
    print(f"Pythons: {here} runs all tests in `make unit`; the unit tests also run on: {others}", flush=True)
    failed = [str(python) for python in pythons if not passes(python)]
    missing = [version for version in required if version not in names]
    for problem, versions in (
        ("tests failed on", failed),
        ("this machine lacks the required Pythons", missing),
    ):
        if versions:
            print(f"{problem} {', '.join(versions)}", file=sys.stderr)
    print(
        f"Pythons that passed: {', '.join(name for name in names[1:] if name not in failed) or 'none except this one'}"
    )
    return 1 if failed or missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
