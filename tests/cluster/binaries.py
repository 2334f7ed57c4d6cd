"""
Build Kubernetes, Helm, cert-manager and kube-router's policy controller from their Go modules.

No release can be downloaded from a package registry. The build keeps each program by the hash of its sources. The first
build takes 8 to 18 minutes on a small machine, at the lowest priority: 2 of them for Helm, 3 for cert-manager. It needs
about 7 GB for Go's caches.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.prerequisites import CACHE, require

HERE = Path(__file__).parent
VERSION_VARIABLES = (
    "k8s.io/component-base/version.gitVersion=v{version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/client-go/pkg/version.gitVersion=v{version}",
)
"""Variables that a release build sets, so that the components report their version."""


def kubelab() -> Path:
    """Return the program that holds Kubernetes, etcd and kubectl."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    variables = " ".join(f"-X {v.format(version=version, major=major, minor=minor)}" for v in VERSION_VARIABLES)
    return _built("kubelab", f"-s -w {variables}", "Building Kubernetes (once; some 10 minutes)")


def pause() -> Path:
    """Return the program that holds a Pod's namespaces. On other clusters it is an image that every node pulls."""
    return _built("pause", "-s -w", "Building the pause program")


def helm() -> Path:
    """Return the program with which users install the chart."""
    return _built("helm", "-s -w", "Building Helm (once; some 2 minutes)", package="helm.sh/helm/v3/cmd/helm")


def cert_manager() -> Path:
    """Return the parts of cert-manager that issue certificates and write caBundles."""
    return _built("certmanager", "-s -w", "Building cert-manager (once; some 3 minutes)")


def policies() -> Path:
    """Return the controller that enforces network policies."""
    return _built("policies", "-s -w", "Building the controller of network policies (once)")


def kubernetes_version() -> str:
    return _version("kubelab", "k8s.io/kubernetes")


def cert_manager_version() -> str:
    return _version("certmanager", "github.com/cert-manager/cert-manager")


def _version(name: str, module: str) -> str:
    """Return the version that the folder's go.mod requires, such as `1.2.3`."""
    wanted = rf"^\s*(?:require )?{re.escape(module)} v(\S+)$"
    found = re.search(wanted, (HERE / name / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _built(name: str, linker_flags: str, announcement: str, package: str = ".") -> Path:
    """
    Build the program, unless it is built already.

    `package` belongs to another module, at the version in the folder's go.mod and with the checksums in its go.sum.
    """
    folder = HERE / name
    sources = sorted(path for path in folder.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    binary = CACHE / f"{name}-{digest}"
    if not binary.exists():
        require({"go": "golang-go"}, f"{name.capitalize()}, built to test with,")
        sys.stderr.write(f"{announcement} …\n")
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = binary.with_suffix(f".{os.getpid()}")
        _build(folder, draft, linker_flags, package)
        draft.rename(binary)
    return binary


def _build(folder: Path, output: Path, linker_flags: str, package: str) -> None:
    go: Mapping[str, str] = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -p=2"}
    build = ["nice", "-n", "19", "go", "build", "-trimpath", f"-ldflags={linker_flags}", "-o", str(output), package]
    subprocess.run(build, cwd=folder, env=os.environ | go, check=True)
