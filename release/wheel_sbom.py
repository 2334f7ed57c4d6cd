"""
Write the software bill of materials that the wheel contains (PEP 770), as CycloneDX 1.6.

    python -m release.wheel_sbom

The wheel contains only our package, so the list of other components is empty and complete. The packages that pip
installs with the wheel depend on the date. Each image has bills of materials of its own.

Rule: the bill depends only on the package's metadata, so the same version always has the same bill.
"""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.source import URL, version_in

REPOSITORY = Path(__file__).parents[1]

PATH = REPOSITORY / "requirements" / "wheel.cdx.json"


def wheel_sbom(project: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the bill of materials for the `[project]` table of pyproject.toml."""
    reference = f"pkg:pypi/{project['name']}@{version}"
    component = {
        "bom-ref": reference,
        "description": project["description"],
        "externalReferences": [{"type": "vcs", "url": URL}],
        "licenses": [{"license": {"id": project["license"]}}],
        "name": project["name"],
        "purl": reference,
        "type": "application",
        "version": version,
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "components": [],
        "compositions": [{"aggregate": "complete", "assemblies": [reference]}],
        "metadata": {"component": component},
        "specVersion": "1.6",
        "version": 1,
    }


def current_text(repository: Path = REPOSITORY) -> str:
    """Return the text of the file for the version and the metadata in the repository."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    version = version_in((repository / "sidecar" / "__init__.py").read_text())
    return json.dumps(wheel_sbom(project, version), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(current_text())
    sys.stdout.write(f"{PATH}\n")
