"""Open the page of `irsa-sidecar local` in Chromium, press every button, and use the credentials in another process."""

import faulthandler
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from sidecar.local.controls import CONTROLS
from tests.website.browser import WatchedPage
from tests.website.conftest import SCREENSHOTS
from tests.website.local_process import Local
from tests.website.local_screenshots import FOLDER, MAX_BYTES, take
from tests.website.test_browser import SCHEMES, WIDTHS

HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "x" * 10_240
"""A value of a condition that would run a script, reorders text and is long."""

HOSTILE_ARN = "arn:aws:iam::111122223333:role/<svg/onload=alert(1)>/" + "x" * 200 + "/app"

TRUST = {
    "Version": "2012-10-17",
    "Statement": {
        "Sid": "Hostile",
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/{issuer}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"{issuer}:sub": ["system:serviceaccount:default:app", HOSTILE[:1500]]}},
    },
}


HOSTILE_CALLS = """
import json, os, urllib.error, urllib.parse, urllib.request
from base64 import urlsafe_b64encode
def token(header, claims):
    return ".".join(urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (header, claims, ""))
claims = {"iss": hostile, "sub": hostile, "aud": [hostile], "exp": 9e9, "iat": 0, hostile: hostile}
header = {"alg": hostile, "kid": hostile, hostile: hostile}
known = {"Version": "2011-06-15", "RoleArn": "arn:aws:iam::111122223333:role/app", "RoleSessionName": "x"}
calls = [
    {"Action": hostile},
    known | {"Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": token(header | {"alg": "RS256"}, claims)},
    known | {"Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": hostile, "RoleArn": hostile},
    known | {"Action": "AssumeRole", "RoleSessionName": hostile, hostile: hostile},
]
for call in calls:
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL_STS"], urllib.parse.urlencode(call).encode())
    except urllib.error.HTTPError as error:
        assert 400 <= error.code < 500, error.code
    else:
        raise SystemExit("STS accepted a hostile call")
"""
"""Calls of STS with hostile text in each parameter and in each part of a token."""

REPORTS = "arn:aws:iam::111122223333:role/reports"
CHAINED = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:role/app"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "shop"}},
    },
}
CHAINED_CALL = "RoleSessionName='test', ExternalId='shop'"

OVER_A_MINUTE = """
import boto3, time
for _ in range(20):
    assert boto3.Session().get_credentials().get_frozen_credentials().access_key
    time.sleep(2.5)
print("20 served")
"""
"""A client that calls 20 times in 50 seconds, while STS is out of service for 60 seconds."""


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    running = Local()
    yield running
    running.stop()


class Opened(WatchedPage):
    """The open page of `local`."""

    def __init__(self, page: Page, local: Local) -> None:
        super().__init__(page)
        page.goto(local.url)
        expect(page.locator(".condition").first).to_be_visible()

    def box(self, component: str) -> Any:
        return self.page.locator(f"#box-{component}")

    def button(self, name: str) -> Any:
        return self.page.locator(f"#control-{name} button")


@pytest.fixture
def opened(browser: Browser, local: Local) -> Iterator[Opened]:
    context = browser.new_context()
    found = Opened(context.new_page(), local)
    yield found
    assert found.messages == []
    assert [url for url in found.requests if not url.startswith(local.url)] == []
    context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_the_screen_and_passes_axe(
    browser: Browser, local: Local, width: str, scheme: Literal["light", "dark"]
) -> None:
    wide, high = WIDTHS[width]
    local.client()
    context = browser.new_context(
        viewport={"width": wide, "height": high}, color_scheme=scheme, reduced_motion="reduce"
    )
    found = Opened(context.new_page(), local)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    found.page.screenshot(path=SCREENSHOTS / f"local-{width}-{scheme}.png", full_page=True)
    assert found.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    content = found.page.evaluate("document.querySelector('main').getBoundingClientRect().bottom + window.scrollY")
    assert found.page.evaluate("document.documentElement.scrollHeight") - max(content, high) < 60
    assert violations_of(found.page) == []
    assert found.messages == []
    context.close()


def violations_of(page: Page) -> list[tuple[str, str]]:
    """Return the accessibility problems that axe finds, each with an element."""
    violations = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:300]) for each in violations]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_with_a_fault_passes_axe(browser: Browser, local: Local, scheme: Literal["light", "dark"]) -> None:
    """A fault shows other colours: the active button, a false condition and the next attempt."""
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    found = Opened(context.new_page(), local)
    found.button("wrong-service-account").click()
    expect(found.page.locator('.condition[data-mark="bad"]')).to_be_visible()
    expect(found.page.locator(".lit")).to_have_count(0)
    assert violations_of(found.page) == []
    found.button("wrong-service-account").click()
    expect(found.page.locator("li.active")).to_have_count(0)
    context.close()


FAULTS = {
    "expire-token": ("STS", "ExpiredTokenException"),
    "wrong-audience": ("STS", "InvalidIdentityToken"),
    "wrong-service-account": ("STS", "AccessDenied"),
    "sts-unavailable": ("STS", "ServiceUnavailable"),
    "sts-throttling": ("STS", "Throttling"),
}
"""The component and the error code that the page shows during each fault."""


@pytest.mark.parametrize("name", FAULTS)
def test_credentials_stay_in_service_during_the_fault(opened: Opened, local: Local, name: str) -> None:
    component, code = FAULTS[name]
    opened.button(name).click()
    expect(opened.page.locator(f"#control-{name}.active")).to_be_visible()
    expect(opened.box(component)).to_contain_text(code)
    assert local.client() == "20 served"
    expect(opened.page.locator("#service")).to_contain_text("Credentials are in service")
    expect(opened.page.locator("#decision")).to_contain_text(f"✗ STS rejects: {code}")
    opened.button(name).click()
    expect(opened.page.locator("li.active")).to_have_count(0)


def test_wrong_service_account_shows_the_false_condition(opened: Opened) -> None:
    opened.button("wrong-service-account").click()
    wrong = opened.page.locator('.condition[data-mark="bad"]')
    expect(wrong).to_contain_text("is false")
    expect(wrong).to_contain_text("system:serviceaccount:default:other")
    expect(opened.page.locator("#claims")).to_contain_text("system:serviceaccount:default:other")
    opened.button("wrong-service-account").click()
    expect(opened.page.locator("#claims")).not_to_contain_text("system:serviceaccount:default:other")


def test_refresh_and_rotation_bring_new_credentials(opened: Opened, local: Local) -> None:
    for name in ("refresh", "rotate-key"):
        before = opened.page.locator("#service-detail").inner_text().partition(",")[0]
        opened.button(name).click()
        expect(opened.page.locator("#service-detail")).not_to_contain_text(before)
        assert local.client() == "20 served"
    expect(opened.box("issuer")).to_contain_text("public keys")


def test_clock_ahead_brings_new_credentials(opened: Opened, local: Local) -> None:
    before = opened.page.locator("#service-detail").inner_text().partition(",")[0]
    opened.button("clock-ahead").click()
    expect(opened.page.locator("#service-detail")).not_to_contain_text(before, timeout=30_000)
    expect(opened.page.locator("#service")).to_contain_text("Credentials are in service", timeout=30_000)
    assert local.client() == "20 served"
    opened.button("clock-ahead").click()
    expect(opened.page.locator("li.active")).to_have_count(0)


def test_silent_sts_leaves_credentials_in_service(opened: Opened, local: Local) -> None:
    """The daemon ends its attempt after ten seconds."""
    opened.button("sts-silent").click()
    expect(opened.box("STS")).to_contain_text("sends no response")
    assert local.client() == "20 served"
    expect(opened.box("daemon")).to_contain_text("could not refresh (Timeout)", timeout=30_000)
    assert local.client() == "20 served"
    expect(opened.page.locator("#service")).to_contain_text("Credentials are in service")
    opened.button("sts-silent").click()
    expect(opened.page.locator("li.active")).to_have_count(0)


@pytest.fixture
def no_time_limit() -> None:
    """Remove the time limit, because the fault takes a minute on any machine."""
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("no_time_limit")
def test_minute_without_sts_disturbs_no_client(opened: Opened, local: Local) -> None:
    """The client calls 20 times during the fault. The fault ends after its time, and then the daemon can refresh."""
    opened.button("sts-unavailable").click()
    expect(opened.box("STS")).to_contain_text("ServiceUnavailable")
    before = opened.page.locator("#service-detail").inner_text().partition(",")[0]
    assert local.client(OVER_A_MINUTE) == "20 served"
    expect(opened.page.locator("li.active")).to_have_count(0, timeout=60_000)
    opened.button("refresh").click()
    expect(opened.page.locator("#service-detail")).not_to_contain_text(before)
    expect(opened.page.locator("#decision")).to_contain_text("✓ STS allows the token")


def test_page_shows_the_policy_of_each_role(browser: Browser, tmp_path: Path) -> None:
    """Another process assumes the second role with the credentials of the first one."""
    config = tmp_path / "local.yaml"
    config.write_text(yaml.safe_dump({"roles": [{"name": "app"}, {"name": "reports", "trust_policy": CHAINED}]}))
    running = Local("--config", str(config))
    context = browser.new_context()
    found = Opened(context.new_page(), running)
    found.page.get_by_label("Role").select_option(REPORTS)
    expect(found.page.locator("#reason")).to_have_text("No call has named this role yet.")
    expect(found.page.locator("#policy")).to_contain_text("sts:ExternalId")
    running.client(f"import boto3; boto3.client('sts').assume_role(RoleArn='{REPORTS}', {CHAINED_CALL})")
    expect(found.page.locator("#decision")).to_have_text("✓ STS allows the call")
    expect(found.page.locator("#policy")).to_contain_text("request has")
    found.page.get_by_label("Role").select_option(index=0)
    expect(found.page.locator("#decision")).to_have_text("✓ STS allows the token")
    assert found.messages == []
    context.close()
    running.stop()


def test_page_has_a_button_for_every_control(opened: Opened) -> None:
    buttons = opened.page.locator("#controls button")
    assert buttons.all_inner_texts() == [control.label for control in CONTROLS.values()]


def test_keyboard_reaches_and_presses_the_buttons(opened: Opened) -> None:
    for _ in range(20):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.textContent") == CONTROLS["sts-unavailable"].label:
            break
    opened.page.keyboard.press("Enter")
    expect(opened.page.locator("#control-sts-unavailable.active")).to_be_visible()
    assert opened.page.evaluate("document.activeElement.textContent").startswith("End: STS out of service")
    opened.page.keyboard.press("Enter")
    expect(opened.page.locator("li.active")).to_have_count(0)


def test_hostile_texts_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    config = tmp_path / "local.yaml"
    settings = {
        "audience": f"<script>alert(1)</script>{HOSTILE}",
        "roles": [{"arn": HOSTILE_ARN, "trust_policy": TRUST}, {"name": "app", "trust_policy": TRUST}],
        "providers": [{"issuer": "https://oidc.example.com", "audiences": [HOSTILE]}],
    }
    config.write_text(yaml.safe_dump(settings))
    running = Local("--config", str(config))
    context = browser.new_context()
    found = Opened(context.new_page(), running)
    content = found.page.locator("main").inner_text()
    assert "<script>alert(1)</script>" in content
    assert "<img src=x onerror=alert(1)>\\u202e" in content
    assert "\u202e" not in content
    assert found.page.locator("#role").inner_text() == HOSTILE_ARN
    assert HOSTILE_ARN in found.page.locator("#role-of-policy").inner_text()
    assert found.page.evaluate("document.scripts.length") == 1
    assert found.page.evaluate("document.images.length") == 0
    assert found.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert found.messages == []
    context.close()
    running.stop()


def test_hostile_calls_of_sts_are_shown_as_text(opened: Opened, local: Local) -> None:
    """Any process on the machine may send any parameters and any token, without a valid signature, to STS."""
    local.client(f"hostile = {HOSTILE!r}\n{HOSTILE_CALLS}")
    expect(opened.page.locator("#events")).to_contain_text("<img src=x onerror=alert(1)>")
    assert "\u202e" not in opened.page.locator("main").inner_text()
    assert opened.page.evaluate("document.scripts.length") == 1
    assert opened.page.evaluate("document.images.length") == 0
    assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_no_secret_reaches_the_browser(browser: Browser, local: Local) -> None:
    """Search the page and the event stream for the secrets that the daemon serves to a client."""
    code = "import boto3; c = boto3.Session().get_credentials(); print(c.secret_key, c.token)"
    secrets = [*local.client(code).split(), *re.findall(r"AUTHORIZATION_TOKEN=(\S+)", local.exports)]
    assert len(secrets) == 3
    context = browser.new_context()
    found = Opened(context.new_page(), local)
    read = "fetch('events').then(async (r) => new TextDecoder().decode((await r.body.getReader().read()).value))"
    sent = found.page.content() + found.page.evaluate(read)
    assert '"claims"' in sent
    assert [secret for secret in secrets if secret in sent] == []
    assert not re.search(r"eyJ[\w-]+\.eyJ", sent)
    context.close()


def test_thousand_connections_disturb_neither_page_nor_daemon(opened: Opened, local: Local) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    port = int(local.url.split(":")[2].partition("/")[0])
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
    try:
        assert local.client() == "20 served"
        opened.button("refresh").click()
        expect(opened.page.locator("#events li").first).to_be_visible()
        opened.page.reload()
        expect(opened.page.locator(".condition").first).to_be_visible()
        assert local.process.poll() is None
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_lost_server_is_reported_on_the_page(browser: Browser) -> None:
    running = Local()
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    page.goto(running.url)
    expect(page.locator("#service")).to_contain_text("Credentials are in service")
    running.stop()
    page.clock.fast_forward(20_000)
    expect(page.locator("#lost")).to_contain_text("does not respond")
    context.close()


def test_screenshots_are_taken_and_small(browser: Browser, tmp_path: Path) -> None:
    """Check the screenshots in docs too. `python -m tests.website.local_screenshots` writes them again."""
    taken = take(browser, tmp_path)
    kept = [FOLDER / path.name for path in taken]
    assert len(taken) == len(SCHEMES)
    assert [path for path in (*taken, *kept) if not 10_000 < path.stat().st_size < MAX_BYTES] == []
