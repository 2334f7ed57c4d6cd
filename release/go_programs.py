"""
Build the programs that a release needs from their Go modules, once for all checkouts.

Package registries have no binaries of cosign, crane, syft, Helm and krew. `tools/NAME/` has a go.mod with the version,
and a go.sum with the checksums of all modules. The cache has each program under a hash of these files.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irsa-sidecar-tests"
"""Cache outside the work tree. A program's name in it contains a hash of its sources, so every checkout finds it."""

UNUSED_SECONDS = 30 * 86_400
"""Time since its last use after which a program is removed. The programs of one Kubernetes version take 160 MB."""

STRIPPED = "-s -w"
"""Flags of the linker that leave out symbols and debugging data."""


@dataclass(frozen=True)
class GoProgram:
    """
    A program to build: the folder with its go.mod, and the path of its package, which may be in another module.

    `tags` are build constraints, separated by commas.
    """

    folder: Path
    package: str = "."
    linker_flags: str = STRIPPED
    minutes: int = 1
    tags: str = ""

    @property
    def name(self) -> str:
        """Return the folder's name, or `kubelab-v1.37` for the folder of one version such as `kubelab/v1.37`."""
        folder = self.folder
        return f"{folder.parent.name}-{folder.name}" if re.fullmatch(r"v[\d.]+", folder.name) else folder.name


def required_version(folder: Path, module: str) -> str:
    """Return the version that the folder's go.mod requires, such as `1.2.3`."""
    wanted = rf"^\s*(?:require )?{re.escape(module)} v(\S+)"
    found = re.search(wanted, (folder / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


COSIGN = GoProgram(TOOLS / "cosign", "github.com/sigstore/cosign/v3/cmd/cosign", minutes=3)
CRANE = GoProgram(TOOLS / "crane", "github.com/google/go-containerregistry/cmd/crane")
SYFT = GoProgram(
    TOOLS / "syft",
    "github.com/anchore/syft/cmd/syft",
    f"{STRIPPED} -X main.version={required_version(TOOLS / 'syft', 'github.com/anchore/syft')}",
    minutes=4,
)
HELM_3 = GoProgram(TOOLS / "helm3", "helm.sh/helm/v3/cmd/helm", minutes=2)
HELM_4 = GoProgram(TOOLS / "helm4", "helm.sh/helm/v4/cmd/helm", minutes=2)
KREW = GoProgram(TOOLS / "krew", "sigs.k8s.io/krew/cmd/krew")
VALIDATE_KREW_MANIFEST = GoProgram(TOOLS / "validate-krew-manifest", "sigs.k8s.io/krew/cmd/validate-krew-manifest")
ACTIONLINT = GoProgram(TOOLS / "actionlint", "github.com/rhysd/actionlint/cmd/actionlint")


def built(program: GoProgram, cache: Path = CACHE) -> Path:
    """
    Return the path of the program, and build it first if the cache lacks it.

    If another process builds it, wait for that process.
    """
    binary = cache / f"{program.name}-{_digest(program)}"
    if not binary.exists():
        if shutil.which("go") is None:
            raise SystemExit(f"{program.name} is built from its Go module: go is missing. Install Go 1.26 or newer.")
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / f".{binary.name}.lock"):
            if not binary.exists():
                sys.stderr.write(f"Building {program.name} (once; some {program.minutes} minutes) …\n")
                draft = cache / f".{binary.name}.draft"
                _build(program, draft)
                draft.rename(binary)
        remove_unused(program.name, cache, time.time())
    os.utime(binary)
    return binary


def remove_unused(name: str, cache: Path, now: float) -> None:
    """Remove the builds of other sources that no checkout has used for UNUSED_SECONDS."""
    for binary in cache.glob(f"{name}-*"):
        is_build = re.fullmatch("[0-9a-f]{16}", binary.name.removeprefix(f"{name}-"))
        if is_build and now - binary.stat().st_mtime > UNUSED_SECONDS:
            binary.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the lock, and wait while another process holds it. The kernel frees the lock of a killed process."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(program: GoProgram) -> str:
    sources = sorted(path for path in program.folder.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _build(program: GoProgram, output: Path) -> None:
    # With GOGC=400, a build takes a fifth less CPU and some more memory.
    go: Mapping[str, str] = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -p=2", "GOGC": "400"}
    flags = ["-trimpath", f"-tags={program.tags}", f"-ldflags={program.linker_flags}", "-o", str(output)]
    build = ["nice", "-n", "19", "go", "build", *flags, program.package]
    subprocess.run(build, cwd=program.folder, env=os.environ | go, check=True)
