"""
Build a base image without an image registry, and print its name, for `make image BASE=…`.

    python -m tests.image.base
    python -m tests.image.base amd64 arm64      prints a name with {arch}, for `make release BASE=…`

Debian's packages come from the package mirror of this machine, and the Python packages from its index. The Debian
system and the image are cached. If the image already exists, the command only prints the name.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.go_programs import CACHE
from tests.image.emulation import emulate
from tests.image.engine import find_engine
from tests.support.prerequisites import require

HERE = Path(__file__).parent
REQUIREMENTS = [HERE.parents[1] / "requirements" / f"{name}.txt" for name in ("build", "run", "tools")]
SUITE = "trixie"
PYTHON_VERSION = "3.13"
"""The version of Python in SUITE, a release of Debian."""

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""The names of architectures in wheels, by their names in Debian and in images."""

NATIVE = next(name for name, machine in MACHINES.items() if platform.machine() in {name, machine})
"""The architecture of this machine."""

PACKAGES = "python3,python3-venv,ca-certificates"


def main(architectures: list[str]) -> None:
    engine = find_engine()
    inputs = [Path(__file__), HERE / "Containerfile", *REQUIREMENTS]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    pattern = f"localhost/irsa-sidecar-tests/base:{digest}-{{arch}}"
    for architecture in architectures or [NATIVE]:
        name = pattern.replace("{arch}", architecture)
        if not _has(engine, name):
            emulate(architecture)
            _build(engine, _debian(engine, architecture), name, architecture)
    sys.stdout.write(f"{pattern if architectures else pattern.replace('{arch}', NATIVE)}\n")


def _has(engine: str, image: str) -> bool:
    return subprocess.run([engine, "image", "inspect", image], capture_output=True, check=False).returncode == 0


def _debian(engine: str, architecture: str) -> str:
    """Return the name of an image with a small Debian and Python. Build the image if it does not exist."""
    name = f"localhost/irsa-sidecar-tests/debian:{SUITE}-{architecture}"
    if _has(engine, name):
        return name
    archive = CACHE / f"debian-{SUITE}-{architecture}.tar"
    if not archive.exists():
        require({"mmdebstrap": "mmdebstrap"}, "A base image without a registry")
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = archive.with_suffix(".draft.tar")
        wanted = ["--variant=essential", f"--include={PACKAGES}", f"--architectures={architecture}"]
        _run("mmdebstrap", "--quiet", *wanted, SUITE, draft)
        draft.rename(archive)
    _run(engine, "import", *_platform(engine, architecture), archive, name)
    return name


def _platform(engine: str, architecture: str) -> list[str]:
    """Return the flag of `import` for the architecture. Docker and podman have different flags."""
    return [f"--arch={architecture}"] if "podman" in engine else [f"--platform=linux/{architecture}"]


def _build(engine: str, debian: str, name: str, architecture: str) -> None:
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(HERE / "Containerfile", context)
        for requirements in REQUIREMENTS:
            _download(requirements, Path(context, "wheels"), MACHINES[architecture])
        build = [engine, "build", "--quiet", "--network=none", "--build-arg", f"DEBIAN={debian}", "--tag", name]
        build.append(f"--platform=linux/{architecture}")
        _run(*build, "--file", f"{context}/Containerfile", context)


def _download(requirements: Path, wheels: Path, machine: str) -> None:
    """Download the wheels for the image's Python, which differs from the Python of this process."""
    platforms = [f"--platform=manylinux{tag}_{machine}" for tag in ("2014", "_2_28", "_2_34")]
    wanted = [f"--python-version={PYTHON_VERSION}", "--only-binary=:all:", "--no-deps", "--require-hashes"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    _run(*pip, *wanted, *platforms, "--dest", wheels, "-r", requirements)


def _run(*command: str | Path) -> None:
    """Run the command with its output on stderr, because stdout must contain only the image's name."""
    subprocess.run(command, stdout=sys.stderr, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
