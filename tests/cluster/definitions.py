"""Install custom resource definitions of other projects, so that a cluster accepts their objects."""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.cluster.waiting import wait_until


class Definitions(NamedTuple):
    """Definitions in a Go module. `files` has the file name of each definition, by the definition's name."""

    module: str
    folder: str
    files: dict[str, str]


OPERATOR = Definitions(
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "example/prometheus-operator-crd",
    {
        f"{kind}.monitoring.coreos.com": f"monitoring.coreos.com_{kind}.yaml"
        for kind in ("podmonitors", "prometheusrules")
    },
)

CERT_MANAGER = Definitions(
    f"github.com/cert-manager/cert-manager@v{binaries.cert_manager_version()}",
    "deploy/crds",
    {
        f"{kind}.cert-manager.io": f"cert-manager.io_{kind}.yaml"
        for kind in ("issuers", "clusterissuers", "certificates", "certificaterequests")
    },
)


def install(cluster: Cluster, definitions: Definitions) -> None:
    """Install the definitions in the cluster, which then knows their fields."""
    command = ["go", "mod", "download", "-json", definitions.module]
    downloaded = subprocess.run(command, capture_output=True, text=True, check=True)
    folder = Path(json.loads(downloaded.stdout)["Dir"], definitions.folder)
    for kind, file in definitions.files.items():
        cluster.kubectl("apply", "--server-side", f"--filename={folder / file}")
        wait_until(lambda: _is_established(cluster, kind), kind)  # noqa: B023  called before the next one


def _is_established(cluster: Cluster, kind: str) -> bool:
    """Return whether the definition is established. `kubectl wait` fails on conditions that are null at first."""
    conditions = cluster.get("crd", kind).get("status", {}).get("conditions") or ()
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)
