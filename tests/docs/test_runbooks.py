"""Check docs/runbooks.md: each alert has a section with all parts, and each section is about an alert."""

import re
from typing import Any

import pytest
import yaml

from tests.docs.test_links import ROOT, anchors, slug
from tests.support.manifests import K8S
from tests.support.monitoring import rule_groups

PAGE = ROOT / "docs/runbooks.md"
PARTS = ["Meaning", "Impact", "Check", "Fix"]

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule["annotations"] for group in rule_groups()["groups"] for rule in group["rules"]
}


def base_url() -> str:
    """Return the chart's default for the address of the runbooks."""
    values = yaml.safe_load((K8S / "chart/values.yaml").read_text(encoding="utf-8"))
    return str(values["monitoring"]["prometheusRule"]["runbookUrl"])


def test_runbooks_are_part_of_the_site() -> None:
    settings = (ROOT / "website/mkdocs.yml").read_text(encoding="utf-8")
    assert "use_directory_urls: false" in settings
    assert f"site_url: {base_url().removesuffix('runbooks.html')}\n" in settings


def sections() -> dict[str, str]:
    """Return the text of each section by its heading."""
    pieces = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_headings_are_exactly_the_alerts() -> None:
    assert list(sections()) == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_section_has_every_part_in_order(alert: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\*", sections()[alert], re.MULTILINE) == PARTS


@pytest.mark.parametrize("alert", ALERTS)
def test_runbook_url_leads_to_the_section(alert: str) -> None:
    assert ALERTS[alert]["runbook_url"] == f"{base_url()}#{slug(alert)}"
    assert slug(alert) in anchors(PAGE)


def test_chart_replaces_the_address_of_the_alerts() -> None:
    """The template replaces the address as a string, so it must contain the same address."""
    template = (K8S / "chart/templates/monitoring.yaml").read_text(encoding="utf-8")
    assert f'replace "{base_url()}" $monitoring.prometheusRule.runbookUrl' in template
