"""
Build Kubernetes, Helm, cert-manager and kube-router's policy controller from their Go modules.

No release can be downloaded from a package registry. The build keeps each program by the hash of its sources. The first
build takes 8 to 18 minutes on a small machine, at the lowest priority: 2 of them for Helm, 3 for cert-manager. It needs
about 7 GB for Go's caches.
"""

import re
from pathlib import Path

from release.go_programs import STRIPPED, GoProgram, built

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
    return built(GoProgram(HERE / "kubelab", linker_flags=f"{STRIPPED} {variables}", minutes=10))


def pause() -> Path:
    """Return the program that holds a Pod's namespaces. On other clusters it is an image that every node pulls."""
    return built(GoProgram(HERE / "pause"))


def cert_manager() -> Path:
    """Return the parts of cert-manager that issue certificates and write caBundles."""
    return built(GoProgram(HERE / "certmanager", minutes=3))


def policies() -> Path:
    """Return the controller that enforces network policies."""
    return built(GoProgram(HERE / "policies"))


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
