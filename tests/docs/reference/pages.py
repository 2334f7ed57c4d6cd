"""List the pages of docs/reference and the other files that come from the parsers, and write them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.reference import (
    alerts,
    annotations,
    audit_rules,
    chart_values,
    commands,
    compatibility,
    doctor_checks,
    endpoint,
    log_events,
    metrics,
    roles_file,
    settings,
)
from tests.docs.schemas import local as local_schema
from tests.docs.schemas import roles as roles_schema
from tests.docs.shells import bash, fish, manual, zsh

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "commands": commands.page,
    "settings": settings.page,
    "metrics": metrics.page,
    "log-events": log_events.page,
    "alerts": alerts.page,
    "annotations": annotations.page,
    "endpoint": endpoint.page,
    "audit-rules": audit_rules.page,
    "doctor-checks": doctor_checks.page,
    "chart-values": chart_values.page,
    "compatibility": compatibility.page,
    "roles-file": roles_file.page,
}
"""The function that returns a page's text, by the page's name without the suffix."""

MANUAL = ROOT / "man"

FILES: Mapping[str, Callable[[], str]] = {
    "sidecar/generated/irsa-sidecar.bash": bash.script,
    "sidecar/generated/_irsa-sidecar": zsh.script,
    "sidecar/generated/irsa-sidecar.fish": fish.script,
    "sidecar/generated/roles.schema.json": roles_schema.text,
    "sidecar/generated/local.schema.json": local_schema.text,
    "docs/roles.schema.json": roles_schema.text,
    "docs/local.schema.json": local_schema.text,
}
"""The function that returns the text of another file, by the path of the file."""


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.md"


def write_all() -> None:
    """Write every page and file, and remove pages that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.stem not in PAGES:
            path.unlink()
    for name, page in PAGES.items():
        path_of(name).write_text(page(), encoding="utf-8")
    for path in MANUAL.glob("*.1"):
        path.unlink()
    MANUAL.mkdir(exist_ok=True)
    for name, text in manual.pages().items():
        (MANUAL / name).write_text(text, encoding="utf-8")
    for name, content in FILES.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(content(), encoding="utf-8")
