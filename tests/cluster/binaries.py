"""
Kubernetes, Helm, cert-manager and kube-router's controller of network policies, built from their own modules, since no
release can be downloaded from a package registry.

What is built is kept by the hash of what it was built from. The first time takes 8 to 18 minutes of a small machine,
2 of them for Helm and 3 for cert-manager, at the lowest priority, and about 7 GB for Go's caches.
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
"""What a release's build sets, so that the components tell which version they are of."""


def kubelab() -> Path:
    """Kubernetes, etcd and kubectl in one program."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    variables = " ".join(f"-X {v.format(version=version, major=major, minor=minor)}" for v in VERSION_VARIABLES)
    return _built("kubelab", f"-s -w {variables}", "Building Kubernetes (once; some 10 minutes)")


def pause() -> Path:
    """What holds a Pod's namespaces: usually the one image that every node pulls."""
    return _built("pause", "-s -w", "Building the pause program")


def helm() -> Path:
    """The program that users install the chart with."""
    return _built("helm", "-s -w", "Building Helm (once; some 2 minutes)", package="helm.sh/helm/v3/cmd/helm")


def cert_manager() -> Path:
    """What of it issues certificates and writes caBundles."""
    return _built("certmanager", "-s -w", "Building cert-manager (once; some 3 minutes)")


def policies() -> Path:
    """The controller that enforces network policies."""
    return _built("policies", "-s -w", "Building the controller of network policies (once)")


def kubernetes_version() -> str:
    return _version("kubelab", "k8s.io/kubernetes")


def cert_manager_version() -> str:
    return _version("certmanager", "github.com/cert-manager/cert-manager")


def _version(name: str, module: str) -> str:
    """The one that the folder's go.mod asks for, as in `1.2.3`."""
    wanted = rf"^\s*(?:require )?{re.escape(module)} v(\S+)$"
    found = re.search(wanted, (HERE / name / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _built(name: str, linker_flags: str, announcement: str, package: str = ".") -> Path:
    """`package` is another module's, at the version and with the checksums that the folder's go.mod and go.sum say."""
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
