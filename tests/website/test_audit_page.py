"""Open the HTML report of `irsa-sidecar audit` as a file, as people do, with the inventories of the audit's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from sidecar.audit.inventory import Inventory
from sidecar.audit.judge import judge
from sidecar.audit.relations import Options
from sidecar.audit.report.html import as_html
from tests.unit.audit.conftest import inventory_of
from tests.unit.audit.documents import NOW
from tests.unit.audit.test_reports import HOSTILE, hostile_inventory
from tests.unit.audit.world import CASES
from tests.website.browser import WatchedPage
from tests.website.conftest import SCREENSHOTS
from tests.website.test_browser import SCHEMES, WIDTHS

WORLDS = {"world": lambda: inventory_of(CASES), "hostile": hostile_inventory}


class Report(WatchedPage):
    """The open page of a report."""

    def __init__(self, page: Page, path: Path) -> None:
        super().__init__(page)
        self.address = path.as_uri()
        page.goto(self.address)

    @property
    def rows(self) -> list[str]:
        """The texts of the visible findings."""
        found: list[str] = self.page.locator("#findings tbody tr:visible").all_inner_texts()
        return found


def written(inventory: Inventory, folder: Path) -> Path:
    path = folder / "audit.html"
    report = judge(inventory, NOW.timestamp(), Options())
    path.write_text(as_html(report, inventory), encoding="utf-8", errors="backslashreplace")
    return path


@pytest.fixture
def report(browser: Browser, tmp_path: Path) -> Iterator[Report]:
    context = browser.new_context()
    yield Report(context.new_page(), written(inventory_of(CASES), tmp_path))
    context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", WORLDS)
def test_report_fits_the_screen_and_passes_axe(
    browser: Browser, tmp_path: Path, name: str, width: str, scheme: Literal["light", "dark"]
) -> None:
    wide, high = WIDTHS[width]
    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme)
    opened = Report(context.new_page(), written(WORLDS[name](), tmp_path))
    opened.page.screenshot(path=SCREENSHOTS / f"audit-{name}-{width}-{scheme}.png")
    assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    found = Axe().run(opened.page)
    assert [(each["id"], each["nodes"][0]["html"][:300]) for each in found.response["violations"]] == []
    assert opened.requests == [opened.address]
    assert opened.messages == []
    context.close()


def test_severity_filter_hides_the_other_findings(report: Report) -> None:
    total = len(report.rows)
    for name in ("warning", "note"):
        report.page.get_by_label(name, exact=True).uncheck()
    errors = report.rows
    assert 0 < len(errors) < total
    assert all("broken." in row for row in errors)
    assert report.page.locator("#shown").inner_text() == f"{len(errors)} of {total} findings"


def test_category_and_search_are_combined(report: Report) -> None:
    report.page.get_by_label("Category").select_option("wide")
    assert all("wide." in row for row in report.rows)
    report.page.get_by_label("Search").fill("ROLE/no-audience aud")
    assert len(report.rows) == 1
    report.page.get_by_label("Search").fill("no such text")
    assert report.rows == []


def test_keyboard_reaches_filters_links_and_the_graph(report: Report) -> None:
    """Enter in the search field must not reload the page."""
    page, reached = report.page, list[str]()
    while page.evaluate("document.activeElement.name || document.activeElement.tagName") != "search":
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.tagName"))
        assert len(reached) < 10
    assert reached == ["severity", "severity", "severity", "category", "search"]
    page.keyboard.type("no-audience")
    page.keyboard.press("Enter")
    assert len(report.rows) == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#wideno-audience"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Graph"
    assert report.requests == [report.address]


def test_hostile_names_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    opened = Report(context.new_page(), written(hostile_inventory(), tmp_path))
    text = "\n".join(opened.rows)
    assert "<script>alert(1)</script>" in text
    assert "a\\u202eevil" in text
    assert "\u202e" not in opened.page.content()
    assert opened.page.evaluate("document.scripts.length") == 1
    assert len(opened.rows) >= len(HOSTILE)
    assert opened.messages == []
    context.close()


def test_page_without_scripts_shows_all_findings(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = Report(context.new_page(), written(inventory_of(CASES), tmp_path))
    assert len(opened.rows) == len(judge(inventory_of(CASES), NOW.timestamp(), Options()).findings)
    assert opened.page.locator(".filters").is_hidden()
    context.close()


def test_policy_of_the_page_blocks_injected_scripts(browser: Browser, tmp_path: Path) -> None:
    """The console must report the violation, because the other tests rely on such messages."""
    context = browser.new_context()
    path = written(inventory_of(CASES), tmp_path)
    path.write_text(path.read_text().replace("<main>", "<main><script>document.title = 'x'</script>"))
    opened = Report(context.new_page(), path)
    assert opened.page.title() == "Audit of lab"
    assert any("Content Security Policy" in message for message in opened.messages)
    context.close()
