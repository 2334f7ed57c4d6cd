"""List the pages of docs/reference, and write them."""

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

FOLDER = Path(__file__).parents[3] / "docs" / "reference"

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


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.md"


def write_all() -> None:
    """Write every page, and remove other files."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.stem not in PAGES:
            path.unlink()
    for name, page in PAGES.items():
        path_of(name).write_text(page(), encoding="utf-8")
