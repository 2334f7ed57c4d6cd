"""Test the page on the admin address: text for curl, HTML for browsers, and its protection against hostile texts."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import pytest

from sidecar.serving import status_page
from sidecar.serving.status import STATES, Client, Failure, LastCall
from tests.unit.serving.test_status import BROKEN, DAEMON, DENIED, HEALTHY

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\u202e"


class Tags(HTMLParser):
    """The tags and the attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (None, False),
        (b"*/*", False),
        (b"application/json", False),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        (b"TEXT/HTML", True),
        (b"text/html;q=0", False),
        (b"text/html; level=1; Q=0.00, */*", False),
        (b"text/html;q=0.01", True),
    ],
)
def test_only_browsers_get_html(accept: bytes | None, *, is_html: bool) -> None:
    assert status_page.wants_html(accept) == is_html


def test_text_shows_every_role_in_eighty_columns() -> None:
    text = status_page.as_text(DAEMON)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "Version 1.2.3, started 10m ago. The clock of this Pod shows 2027-01-15T08:00:00Z." in " ".join(text.split())
    assert re.search(r"^cart +ready +52m +22m +ok 8m ago", text, re.MULTILINE)
    assert re.search(r"^reporting +unavailable ", text, re.MULTILINE)
    assert "reporting: Not authorized to perform sts:AssumeRoleWithWebIdentity" in text


def test_page_shows_every_role() -> None:
    page = status_page.as_html(DAEMON)
    for text in (HEALTHY.role_arn, BROKEN.role_arn, DENIED.message, "in 52m (2027-01-15T08:52:00Z)", "user 1000"):
        assert text in page
    assert "success (HTTP 200) after 0.12 s, 8m ago" in page
    assert "unknown user, 2m ago" in page


def test_page_of_a_starting_role_has_no_gaps() -> None:
    role = BROKEN._replace(state="starting", last_call=None, error=None)
    daemon = DAEMON._replace(roles=(role,))
    page = status_page.as_html(daemon)
    assert "<dd>none yet</dd>" in page
    assert "the first exchange with STS has not ended yet" in page
    assert "None" not in page + status_page.as_text(daemon)


def test_call_without_a_response_has_no_status() -> None:
    role = BROKEN._replace(last_call=LastCall("Timeout", None, 5.0, 10.0))
    assert "Timeout (no response) after 10.00 s" in status_page.as_html(DAEMON._replace(roles=(role,)))


def test_hostile_texts_are_escaped() -> None:
    role = HEALTHY._replace(
        name=HOSTILE,
        role_arn=HOSTILE,
        state=HOSTILE,
        last_call=LastCall(HOSTILE, 200, 1.0, 1.0),
        error=Failure(HOSTILE, HOSTILE, needs_person=False),
        clients=(Client(1000, None, 1.0),),
    )
    daemon = DAEMON._replace(version=HOSTILE, roles=(role,))
    page, healthy = status_page.as_html(daemon), Tags(status_page.as_html(DAEMON._replace(roles=(HEALTHY,))))
    tags = Tags(page)
    assert "script" not in tags.tags
    assert {tag for tag in tags.tags if tags.tags.count(tag) != healthy.tags.count(tag)} <= {"dt", "dd"}
    assert {name for name, _ in tags.attributes} == {name for name, _ in healthy.attributes}
    for text in (page, status_page.as_text(daemon)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_escape_is_that_of_the_standard_library() -> None:
    assert status_page._escaped("<a href=\"x\" title='y'>&</a>") == html.escape("<a href=\"x\" title='y'>&</a>")


def test_policy_allows_only_the_style_sheet() -> None:
    page, policy = status_page.as_html(DAEMON), dict(status_page.HTML_HEADERS)["Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert "style=" not in page


def test_every_state_has_a_colour() -> None:
    assert all(f".{state}" in status_page._STYLE for state in STATES)
