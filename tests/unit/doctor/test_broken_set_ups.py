"""
Break one thing at a time in a working set-up of real peers, and test that doctor reports it first.

Each row of BROKEN names the fault, the function that causes it, the check that finds it, and words from the headline.
"""

from pathlib import Path

import pytest
import trio

from sidecar.doctor.probes import aws
from sidecar.doctor.report import as_text
from tests.support.exchanges import Resolver
from tests.unit.doctor.breakages import READ_BY_LIBRARIES, Broken, Environ
from tests.unit.doctor.broken_set_ups import BROKEN
from tests.unit.doctor.set_up import examine, set_up

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


def shorten_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.sts.client.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("sidecar.doctor.probes.network_path.STEP_SECONDS", 0.5)
    monkeypatch.setattr(aws, "CONNECT_SECONDS", 0.5)


def use_only_loopback(environ: Environ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set botocore's variables, and allow only loopback endpoints, because botocore uses the system's resolver."""
    is_local = environ.get("AWS_ENDPOINT_URL_STS", "").startswith("http://127.0.0.1")
    monkeypatch.setattr(aws, "is_installed", lambda: is_local and "AWS_ENDPOINT_URL_IAM" in environ)
    for name in READ_BY_LIBRARIES:
        if name in environ:
            monkeypatch.setenv(name, environ[name])


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.what)
async def test_first_failure_names_the_broken_part(
    row: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None
) -> None:
    if row.is_silent:
        shorten_timeouts(monkeypatch)
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with set_up(tmp_path) as at:
        environ = await row.break_it(at)
        use_only_loopback(environ, monkeypatch)
        report = await examine(environ, files=environ.get("FILES"))
    first = report.first_failure
    text = as_text(report, width=1000, colours=False)
    assert first is not None, text
    assert f"{first.group}.{first.check}" == row.check, text
    headline, next_step, *_ = text.split("\n")
    assert headline.startswith("Failed: "), text
    assert row.words in headline, text
    assert next_step.rstrip(".?") == f"Next: {first.finding.next_step}".rstrip(".?"), text
    assert len(first.finding.next_step) > 10
