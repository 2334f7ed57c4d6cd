"""Write docs/reference/compatibility.md: versions, SDKs and architectures, and the tests of each environment."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from sidecar.injection.settings import FIRST_NATIVE, KUBELET_SKEW
from sidecar.sts.endpoint import PARTITIONS
from tests.cluster.binaries import MINORS, cert_manager_version, kubernetes_version
from tests.docs.reference import markdown
from tests.docs.reference.compatibility_notes import AWS, KUBERNETES, SYSTEMS, Environment
from tests.docs.reference.markdown import bullets, code, codes, section, sentences, table
from tests.sdk.cases import CASES
from tests.sdk.catalogue import CLIENTS
from tests.sdk.limits import LIMITS
from tests.support.kubernetes_versions import VERSIONS

ROOT = Path(__file__).parents[3]

_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
_REQUIRED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?P<bounds>.*)")

_SDKS = f"""
`make test-sdks` runs each client in the locked version, in {len(CASES)} cases.
Every client gets credentials from the endpoint.
The last column counts the cases that a client cannot pass.
[AWS SDKs](../sdks.md) has the cases and the limits.
"""


def page() -> str:
    versions = _versions()
    return markdown.page(
        "Compatibility",
        "This page lists the versions that irsa-sidecar supports, and the tests of each environment.",
        section(2, "Kubernetes", bullets(_kubernetes(versions)), _tested(KUBERNETES, versions)),
        section(
            2,
            "AWS",
            f"The partitions are {codes(partition.name for partition in PARTITIONS)}.",
            _tested(AWS, versions),
        ),
        section(2, "AWS SDKs", sentences(_SDKS), table(("client", "version", "limits"), _clients())),
        section(2, "Operating systems and architectures", _tested(SYSTEMS, versions)),
        section(2, "Python", bullets(_pythons())),
        section(3, "Packages of `run`", table(("package", "required", "in the image"), _packages())),
    )


def _versions() -> Mapping[str, str]:
    """Return the version for each placeholder in the notes."""
    chart = yaml.safe_load((ROOT / "k8s" / "chart" / "Chart.yaml").read_text(encoding="utf-8"))
    return {
        "kubernetes": kubernetes_version(MINORS[-1]),
        "oldest_kubernetes": kubernetes_version(MINORS[0]),
        "cert_manager": cert_manager_version(),
        "first": VERSIONS[0],
        "newest": VERSIONS[-1],
        "chart": ".".join(re.findall(r"\d+", chart["kubeVersion"])[:2]),
        "helm_3": _helm(3),
        "helm_4": _helm(4),
    }


def _helm(major: int) -> str:
    text = (ROOT / "release" / "tools" / f"helm{major}" / "go.mod").read_text(encoding="utf-8")
    return str(re.findall(rf"helm\.sh/helm/v{major} v(\S+)", text)[0])


def _kubernetes(versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    native = ".".join(map(str, FIRST_NATIVE))
    yield "Oldest version for the chart", versions["chart"]
    yield "Native sidecars", f"nodes of {native} or newer. On older nodes, injection adds an ordinary container"
    yield "Nodes", f"up to {KUBELET_SKEW} minor versions behind the API server, as Kubernetes allows"


def _tested(rows: Iterable[Environment], versions: Mapping[str, str]) -> str:
    return table(
        ("environment", "tested", "tests"),
        ((row.what.format(**versions), f"{row.how.format(**versions)}.", _place(row.where)) for row in rows),
    )


def _place(where: str) -> str:
    return f"[{where}](../../{where})" if where else "none"


def _clients() -> Iterator[tuple[str, str, str]]:
    for client in CLIENTS:
        limits = [limit for limit in LIMITS if limit.client == client.name]
        yield (
            client.title,
            client.version,
            f"[{len(limits)} of {len(CASES)} cases](../sdks.md#limits)" if limits else "none",
        )


def _pythons() -> Iterator[tuple[str, str]]:
    project = _project()
    base = re.findall(r"^ARG BASE=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[0]
    required = re.findall(r"REQUIRED_PYTHONS=(\S+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))[0]
    yield "Supported", f"CPython {project['requires-python'].removeprefix('>=')} and newer"
    yield "In the images", f"the Python of {code(base.partition('@')[0])}"
    yield "Tested", "`make test` uses one Python, and `make test-pythons` uses the other installed versions"
    yield "In CI", f"`make test-pythons` uses only {required}, the version of the image, and fails if it is missing"


def _project() -> Mapping[str, str]:
    project: Mapping[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _packages() -> Iterator[tuple[str, str, str]]:
    pinned = dict(_PINNED.findall((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")))
    for dependency in _project()["dependencies"]:
        found = _REQUIRED.fullmatch(dependency)
        assert found is not None
        yield code(found["name"]), code(found["bounds"]), pinned[found["name"]]
