"""Check the table of NO_PROXY in docs/proxies.md, for the sidecar and for botocore."""

import re

import pytest
from botocore.utils import get_environ_proxies

from sidecar.outbound import proxy_for
from tests.support.documents import read

URL = "https://sts.eu-west-1.amazonaws.com"
PROXY = "http://127.0.0.1:3128"

_ROW = re.compile(r"^\| (`.+?) \| (direct|proxy) \| (?:direct|proxy)[^|]* \|$", re.MULTILINE)

ENTRIES = [
    (entry, way) for cell, way in _ROW.findall(read("docs/proxies.md")) for entry in re.findall(r"`(.+?)`", cell)
]
"""Each entry of the table, with `direct` or `proxy` as the page promises."""


@pytest.mark.parametrize(("entry", "way"), ENTRIES)
def test_no_proxy_entry_has_the_effect_in_the_table(monkeypatch: pytest.MonkeyPatch, entry: str, way: str) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, PROXY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, entry)
    expected = PROXY if way == "proxy" else None
    assert proxy_for(URL) == expected
    assert get_environ_proxies(URL).get("https") == expected


def test_no_proxy_table_is_found() -> None:
    assert len(ENTRIES) >= 8
