"""
Build the subjects of measurements under `benchmarks/.build`, and build them again when their sources changed.

Rule: `run` is measured as in the image, and never from the source tree. Its environment has the wheel and only the
packages of `requirements/run.txt`, checked against their hashes and byte-compiled.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / ".build"

BOTO3_PACKAGES = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
"""The names of boto3 and its dependencies. `requirements/dev.txt` has the versions."""

BUILD_SECONDS = 600
"""Deadline for one step of a build. A slow network and an empty compiler cache need minutes."""


class MissingError(Exception):
    """An error for a missing subject or tool on this machine. The message is one line with the name and the reason."""


def run_environment(python: str) -> Path:
    """Return a virtual environment of `python` that has only the wheel of this tree and its locked packages."""
    lock = ROOT / "requirements" / "run.txt"
    sources = [lock, ROOT / "pyproject.toml", ROOT / "README.md", *sorted((ROOT / "sidecar").rglob("*.py"))]

    def make(directory: Path) -> None:
        wheels = directory / "wheel"
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
        _make_environment(directory, python, lock)
        _install_wheel(directory, next(wheels.glob("*.whl")))

    return _compiled(
        _made("run-" + _version_tag(python), [python.encode(), *(file.read_bytes() for file in sources)], make)
    )


def tools_environment(python: str) -> Path:
    """Return a virtual environment of `python` that has only the locked packages of the image for tools."""
    lock = ROOT / "requirements" / "tools.txt"

    def make(directory: Path) -> None:
        _make_environment(directory, python, lock)

    return _compiled(_made("tools-" + _version_tag(python), [python.encode(), lock.read_bytes()], make))


def boto3_environment(python: str) -> Path:
    """Return a virtual environment of `python` that has only boto3, locked as in the development environment."""
    lock = _locked(ROOT / "requirements" / "dev.txt", BOTO3_PACKAGES)

    def make(directory: Path) -> None:
        (directory / "boto3.txt").write_text(lock, encoding="utf-8")
        _make_environment(directory, python, directory / "boto3.txt")

    return _compiled(_made("boto3-" + _version_tag(python), [python.encode(), lock.encode()], make))


def go_program(name: str, package: str) -> Path:
    """Build one of the two programs in `go/` from the modules in go.sum, without symbols, like a release."""
    sources = [HERE / "go" / "go.mod", HERE / "go" / "go.sum", HERE / "go" / package / "main.go"]
    return _go(name, [file.read_bytes() for file in sources], ["build", "-o", "{output}", f"./{package}"], HERE / "go")


def go_module(name: str, module: str) -> Path:
    """Build a program from the module that its authors publish. `module` is a package's path and a version."""
    return _go(name, [module.encode()], ["install", module], BUILD)


def _go(name: str, inputs: Iterable[bytes], arguments: list[str], cwd: Path) -> Path:
    """Run this `go` command, and return the program that it builds."""
    go = tool("go")

    def make(directory: Path) -> None:
        # The modules are under .build too, and are writable, so that `rm -r .build` can remove them.
        programs = directory / "bin"
        places = {"GOPATH": str(BUILD / "gopath"), "GOBIN": str(programs)}
        environ = _environ() | places | {"GOFLAGS": "-modcacherw", "CGO_ENABLED": "0"}
        verb, *others = [argument.format(output=programs / name) for argument in arguments]
        _step([go, verb, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", *others], environ=environ, cwd=cwd)

    return next((_made(name, inputs, make) / "bin").iterdir())


def c_program(name: str) -> Path:
    """Build `limit` or `paced` from the C source beside this file."""
    cc = tool("cc")
    source = HERE / f"{name}.c"

    def make(directory: Path) -> None:
        _step([cc, "-O2", "-Wall", "-Wextra", "-o", str(directory / name), str(source)])

    return _made(name, [source.read_bytes()], make) / name


def tool(name: str) -> str:
    """
    Return the path of a program on this machine.

    Raises MissingError if it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"{name} is not on this machine's PATH")
    return path


def _made(name: str, inputs: Iterable[bytes], make: Callable[[Path], None]) -> Path:
    """Return the directory `name` under .build. Build it first if it is missing or its inputs have changed."""
    directory, digest = BUILD / name, hashlib.sha256()
    for piece in inputs:
        digest.update(hashlib.sha256(piece).digest())
    stamp = directory / "made-of"
    if not (stamp.exists() and stamp.read_text(encoding="ascii") == digest.hexdigest()):
        print(f"building {name} ...", file=sys.stderr, flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        make(directory)
        stamp.write_text(digest.hexdigest(), encoding="ascii")
    return directory


def _make_environment(directory: Path, python: str, lock: Path) -> None:
    _step([python, "-m", "venv", "--without-pip", str(directory)])
    _pip_into(directory, "--require-hashes", "-r", str(lock))


def _pip_into(directory: Path, *arguments: str) -> None:
    """Install packages with the pip of this environment, so that the measured environment needs no pip."""
    _pip("--python", str(directory / "bin" / "python"), "install", "--no-compile", *arguments)


def _install_wheel(directory: Path, wheel: Path) -> None:
    """Install the wheel with uv, whose script for the command starts as fast as that of the image's pip."""
    uv = str(Path(sys.executable).with_name("uv"))
    _step(
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-deps",
            "--python",
            str(directory / "bin" / "python"),
            str(wheel),
        ]
    )


def _pip(*arguments: str) -> None:
    _step([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _compiled(environment: Path) -> Path:
    """
    Byte-compile the packages of the environment, and return the environment.

    This is repeated each time, because `make clean` removes every __pycache__. Compiled files are skipped.
    """
    _step([str(environment / "bin" / "python"), "-m", "compileall", "-q", str(environment / "lib")])
    return environment


def _step(command: list[str], *, environ: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    try:
        subprocess.run(
            command,
            env=environ or _environ(),
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        last_line = (exc.stderr.strip() or exc.stdout.strip() or "no output").splitlines()[-1]
        raise MissingError(f"`{' '.join(command)[:80]}` failed: {last_line}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise MissingError(f"`{' '.join(command)[:80]}`: {exc}") from exc


def _environ() -> dict[str, str]:
    """Return our environment without variables that stop byte-compiling or add other packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _locked(lock: Path, packages: Iterable[str]) -> str:
    """Return the part of a lock file for `packages`, with hashes."""
    blocks = re.findall(r"^[a-z0-9].*(?:\n .*)*", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    wanted = [block for block in blocks if re.split(r"[=\[ ]", block, maxsplit=1)[0] in set(packages)]
    return "\n".join(wanted) + "\n"


def _version_tag(python: str) -> str:
    """Return a directory name for an interpreter, from its version and path."""
    return f"{Path(python).name}-{hashlib.sha256(python.encode()).hexdigest()[:8]}"
