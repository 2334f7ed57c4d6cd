"""
Package the Helm chart, and sign it for `helm verify`.

`helm package` writes the current time into its archive, so the archive is written again with the time of the commit.
The provenance file is a clear-signed OpenPGP message with Chart.yaml and the archive's digest
(https://helm.sh/docs/topics/provenance/).
"""

import hashlib
from pathlib import Path

import yaml

from release.archive import compress, entries, tar
from release.keys import clear_sign
from release.programs import build_with

CHART_FOLDER = Path("k8s", "chart")


def package_chart(helm: Path, files: Path, output: Path, epoch: int) -> Path:
    """Write the chart's archive into the output folder, and return its path."""
    build_with([str(helm), "package", str(CHART_FOLDER), "--destination", str(output)], files, epoch)
    chart = next(output.glob("irsa-sidecar-*.tgz"))
    chart.write_bytes(compress(tar(entries(chart.read_bytes()), epoch)))
    return chart


def provenance_text(metadata: str, name: str, content: bytes) -> str:
    """Return the text that is signed: the fields of Chart.yaml, and the digest of the archive."""
    chart = yaml.safe_dump(yaml.safe_load(metadata), sort_keys=True)
    files = yaml.safe_dump({"files": {name: f"sha256:{hashlib.sha256(content).hexdigest()}"}})
    return f"{chart}\n...\n{files}"


def sign_chart(chart: Path, keys: Path) -> None:
    """Write the provenance file of the chart, beside the chart."""
    content = chart.read_bytes()
    metadata = next(entry.content for entry in entries(content) if entry.path == "irsa-sidecar/Chart.yaml")
    text = provenance_text(metadata.decode(), chart.name, content)
    chart.with_name(f"{chart.name}.prov").write_bytes(clear_sign(text.encode(), keys))
