"""
Take the screenshots of the page of `irsa-sidecar local` in docs/screenshots, in Chromium.

Rule: the screenshots show a real run with a fault in progress. `python -m tests.website.local_screenshots` writes them.
"""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.documents import ROOT
from tests.website.browser import launched
from tests.website.local_process import Local

FOLDER = ROOT / "docs" / "screenshots"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

MAX_BYTES = 150_000
"""The maximum size of one screenshot in bytes, because each checkout contains the screenshots."""


def take(browser: Browser, folder: Path) -> list[Path]:
    """Write one screenshot for each scheme into the folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    local = Local()
    try:
        return [_screenshot(browser, local, scheme, folder) for scheme in SCHEMES]
    finally:
        local.stop()


def _screenshot(browser: Browser, local: Local, scheme: Literal["light", "dark"], folder: Path) -> Path:
    context = browser.new_context(viewport={"width": 1210, "height": 980}, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(local.url)
    local.client()
    page.locator("#control-wrong-service-account button").click()
    expect(page.locator('.condition[data-mark="bad"]')).to_be_visible()
    expect(page.locator(".lit")).to_have_count(0)
    path = folder / f"local-{scheme}.jpg"
    page.screenshot(path=path, type="jpeg", quality=62)
    page.locator("#control-wrong-service-account button").click()
    expect(page.locator("li.active")).to_have_count(0)
    context.close()
    return path


if __name__ == "__main__":
    with sync_playwright() as playwright, launched(playwright) as started:
        print(*take(started, FOLDER), sep="\n")
