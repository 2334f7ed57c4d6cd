"""Show pages of the site at the width of a phone and of a desktop, in both themes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route

from sidecar.audit.report.texts import link
from sidecar.audit.rules.all import RULES

PAGES = ["index", "local", "install", "troubleshooting", "reference/settings", "benchmarks", "reliability"]
WIDTHS = {"phone": (390, 844), "desktop": (1440, 900)}
SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]


class Visit:
    """A page of a browser. `foreign` lists the requests for other sites, which the browser does not send."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.foreign: list[str] = []
        self._site = site
        page.route("**/*", self._route)

    def _route(self, route: Route) -> None:
        if route.request.url.startswith((self._site, "data:", "blob:")):
            route.continue_()
            return
        self.foreign.append(route.request.url)
        route.abort()

    def open(self, name: str) -> None:
        self.page.goto(f"{self._site}/{name}.html", wait_until="networkidle")


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Literal["light", "dark"]:
    found: Literal["light", "dark"] = request.param
    return found


@pytest.fixture
def visit(browser: Browser, site: str, width: str, scheme: Literal["light", "dark"]) -> Iterator[Visit]:
    wide, high = WIDTHS[width]
    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme)
    yield Visit(context.new_page(), site)
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_the_screen_and_has_enough_contrast(
    visit: Visit, screenshots: Path, name: str, width: str, scheme: str
) -> None:
    visit.open(name)
    visit.page.screenshot(path=screenshots / f"{name.replace('/', '-')}-{width}-{scheme}.png")
    assert visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    found = Axe().run(visit.page, context=".md-content", options={"runOnly": ["color-contrast", "image-alt"]})
    assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []
    assert visit.foreign == []


def test_links_of_audit_reports_lead_to_headings(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/reference/audit-rules.html")
    found = set(page.evaluate("[...document.querySelectorAll('h3[id]')].map((heading) => heading.id)"))
    assert found == {link(rule.id).partition("#")[2] for rule in RULES}
    page.close()


def test_search_finds_a_setting(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("IRSA_SIDECAR_DRAIN_SECONDS")
    page.get_by_role("link", name="settings").first.wait_for()
    page.close()


def test_version_selector_lists_versions(browser: Browser, site: str) -> None:
    """Serve a list of versions in the format that `website.versions` writes."""
    listed = [
        {"version": "0.2", "title": "0.2", "aliases": ["latest"]},
        {"version": "0.1", "title": "0.1", "aliases": []},
    ]
    page = browser.new_page()
    page.route(
        "**/versions.json", lambda route: route.fulfill(body=json.dumps(listed), content_type="application/json")
    )
    page.goto(f"{site}/index.html")
    page.locator(".md-version").wait_for()
    assert page.locator(".md-version__link").all_text_contents() == ["0.2", "0.1"]
    page.close()


def test_llms_text_lists_the_pages(site: str, browser: Browser) -> None:
    page = browser.new_page()
    text = page.request.get(f"{site}/llms.txt").text()
    assert text.startswith("# irsa-sidecar\n")
    assert "/troubleshooting.md" in text
    page.close()
