"""
Build Kubernetes, cert-manager and kube-router's policy controller from their Go modules.

Package registries do not have the released programs. The build caches each program under the hash of its sources. The
first build takes 8 to 18 minutes on a small machine, at the lowest priority, including 3 minutes for cert-manager. The
build needs about 7 GB for Go's caches.
"""

from pathlib import Path

from release.go_programs import STRIPPED, GoProgram, built, required_version

HERE = Path(__file__).parent
VERSION_VARIABLES = (
    "k8s.io/component-base/version.gitVersion=v{version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/client-go/pkg/version.gitVersion=v{version}",
)
"""Go variables that a release build sets. With them the components report their version."""


def kubelab() -> Path:
    """Return the program that contains Kubernetes, etcd and kubectl."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    variables = " ".join(f"-X {v.format(version=version, major=major, minor=minor)}" for v in VERSION_VARIABLES)
    return built(GoProgram(HERE / "kubelab", linker_flags=f"{STRIPPED} {variables}", minutes=10))


def pause() -> Path:
    """Return the pause program, which keeps a Pod's namespaces open. Other clusters pull an image with this program."""
    return built(GoProgram(HERE / "pause"))


def cert_manager() -> Path:
    """Return the controllers of cert-manager that issue certificates and write caBundles."""
    return built(GoProgram(HERE / "certmanager", minutes=3))


def policies() -> Path:
    """Return the controller that enforces network policies."""
    return built(GoProgram(HERE / "policies"))


def kubernetes_version() -> str:
    return required_version(HERE / "kubelab", "k8s.io/kubernetes")


def cert_manager_version() -> str:
    return required_version(HERE / "certmanager", "github.com/cert-manager/cert-manager")
