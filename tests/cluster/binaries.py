"""
Build Kubernetes, cert-manager and kube-router's policy controller from their Go modules.

Package registries do not have the released programs. The build caches each program under the hash of its sources. The
first build takes 8 to 18 minutes on a small machine, at the lowest priority, including 3 minutes for cert-manager. The
build needs about 7 GB for Go's caches.

KUBERNETES selects the version, such as 1.37. The default is the newest.
"""

import os
from pathlib import Path

from release.go_programs import STRIPPED, GoProgram, built, required_version

HERE = Path(__file__).parent
VERSION_VARIABLES = (
    "k8s.io/component-base/version.gitVersion=v{version}",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor={minor}",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/client-go/pkg/version.gitVersion=v{version}",
)
"""The Go variables that a release build sets, so that the components report their version."""


MINORS = sorted((folder.name[1:] for folder in (HERE / "kubelab").glob("v*")), key=lambda minor: int(minor[2:]))
"""Kubernetes' minor versions that can be built, such as 1.37, from the oldest to the newest."""


def minor_version() -> str:
    """
    Return the selected minor version of Kubernetes.

    Raises SystemExit if this version cannot be built.
    """
    selected = os.environ.get("KUBERNETES") or MINORS[-1]
    if selected not in MINORS:
        raise SystemExit(f"KUBERNETES is {selected}: this version cannot be built. Choose one of {', '.join(MINORS)}.")
    return selected


def kubelab(minor: str | None = None) -> Path:
    """Return the program with etcd, kubectl and Kubernetes, in this minor version or else the selected version."""
    selected = minor or minor_version()
    version = kubernetes_version(selected)
    variables = " ".join(f"-X {v.format(version=version, minor=selected[2:])}" for v in VERSION_VARIABLES)
    # Kubernetes 1.29 contains the cloud providers, which need several large modules.
    return built(GoProgram(_sources(selected), linker_flags=f"{STRIPPED} {variables}", minutes=10, tags="providerless"))


def pause() -> Path:
    """Return the pause program, which keeps a Pod's namespaces open. Other clusters pull an image with this program."""
    return built(GoProgram(HERE / "pause"))


def cert_manager() -> Path:
    """Return the controllers of cert-manager that issue certificates and write caBundles."""
    return built(GoProgram(HERE / "certmanager", minutes=3))


def policies() -> Path:
    """Return the controller that enforces network policies."""
    return built(GoProgram(HERE / "policies"))


def kubernetes_version(minor: str) -> str:
    """Return the patch version that is built, such as 1.37.2."""
    return required_version(_sources(minor), "k8s.io/kubernetes")


def cert_manager_version() -> str:
    return required_version(HERE / "certmanager", "github.com/cert-manager/cert-manager")


def _sources(minor: str) -> Path:
    return HERE / "kubelab" / f"v{minor}"
