"""Check that the reference has every rule of audit, under the heading that reports link to."""

import pytest

from sidecar.audit.report.texts import PAGE, link
from sidecar.audit.rules.all import RULES
from tests.docs.reference.audit_examples import examples
from tests.docs.reference.audit_rule_notes import CATEGORIES, WHAT_TO_DO
from tests.docs.reference.audit_rules import of_category
from tests.docs.reference.pages import path_of
from tests.docs.test_links import ROOT, anchors

IDS = [rule.id for rule in RULES]


def test_every_rule_has_a_category_a_note_and_an_example() -> None:
    assert list(WHAT_TO_DO) == IDS
    assert [rule.id for name in CATEGORIES for rule in of_category(name)] == IDS
    assert set(examples()) == set(IDS)


def test_page_has_a_heading_for_every_rule() -> None:
    text = path_of("audit-rules").read_text(encoding="utf-8")
    assert [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")] == IDS


@pytest.mark.parametrize("rule", IDS)
def test_link_of_a_rule_leads_to_its_heading(rule: str) -> None:
    """tests/website/test_browser.py compares the same anchors with those of the built site."""
    page, _, anchor = link(rule).partition("#")
    assert page == PAGE
    assert anchor in anchors(path_of("audit-rules"))


def test_url_of_the_rules_page_matches_the_site_settings() -> None:
    """The site keeps the names of the files, with the suffix `.html`."""
    settings = (ROOT / "website/mkdocs.yml").read_text(encoding="utf-8")
    assert f"site_url: {PAGE.removesuffix('reference/audit-rules.html')}\n" in settings
    assert "use_directory_urls: false\n" in settings
