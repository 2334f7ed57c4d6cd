"""Test that doctor runs in a Pod through kubectl exec, and that the findings are merged."""

import json
import os
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.doctor import from_sidecar
from sidecar.doctor.finding import Status
from tests.support.fakes.api_server import FakeApiServer
from tests.unit.doctor.pod_document import POD, PODS, examine
from tests.unit.doctor.set_up import set_up

TOKEN_FILE = "/var/run/secrets/irsa-sidecar/token"

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


def fake_kubectl(directory: Path, script: str) -> None:
    """Write an executable `kubectl` that runs `script`."""
    directory.mkdir()
    (directory / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "kubectl").chmod(0o755)


async def test_findings_inside_follow_the_findings_from_outside(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, run = tmp_path / "arguments", f'. {tmp_path}/environ; exec {sys.executable} -m sidecar "$@" --no-imds'
    script = f'echo "$@" > {arguments}; while [ "$1" != -- ]; do shift; done; shift 2; {run}'
    fake_kubectl(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    async with set_up(tmp_path) as at:
        inside = at.but(AWS_ROLE_ARN=at.role("refusing"))
        (tmp_path / "environ").write_text("".join(f"export {name}='{value}'\n" for name, value in inside.items()))
        report = await examine(environ, execs=True)
    assert arguments.read_text() == "exec -n shop cart -c irsa-sidecar -- irsa-sidecar doctor --json\n"
    assert report.rows[0].group == "pod"
    first = report.first_failure
    assert first is not None
    assert (first.group, first.check) == ("exchange", "granted")
    assert "sub is system:serviceaccount:default:app" in first.finding.observed


async def test_failed_readiness_shows_the_next_step_from_inside(
    tmp_path: Path, api: FakeApiServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = api.respond
    unready: tuple[int, Any] = (503, b"default: AccessDenied: Not authorized")
    monkeypatch.setattr(
        api, "respond", lambda method, target, body: unready if "proxy" in target else respond(method, target, body)
    )
    cause = {
        "group": "exchange",
        "check": "granted",
        "status": "failed",
        "observed": "no",
        "next_step": "Let it allow this",
    }
    document = json.dumps({"version": 1, "checks": [cause]})
    fake_kubectl(tmp_path / "bin", f"echo '{document}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    first = (await examine(environ, execs=True)).first_failure
    assert first is not None
    assert (first.check, first.finding.next_step) == ("readiness", "Let it allow this")


LIFETIMES = [
    # the token lifetimes in the document, the status of the lifetime, the status of the grace period
    ({TOKEN_FILE: 3600.0}, Status.WARNING, Status.WARNING),
    ({TOKEN_FILE: 86400.0}, Status.OK, Status.OK),
    ({TOKEN_FILE: 86395.0}, Status.OK, Status.OK),
    ({"/elsewhere": 3600.0}, None, Status.OK),
    (None, None, Status.OK),
]


@pytest.mark.parametrize("row", LIFETIMES)
async def test_shorter_token_lifetime_than_requested_is_a_warning(
    tmp_path: Path,
    api: FakeApiServer,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    row: tuple[dict[str, float] | None, Status | None, Status],
) -> None:
    """Use a grace period of 2 hours. With tokens of an hour, a terminating Pod has credentials for 72 minutes."""
    lifetimes, lifetime, termination = row
    pod = deepcopy(POD)
    pod["spec"]["terminationGracePeriodSeconds"] = 7200
    api.put(f"{PODS}/cart", pod)
    document = {"version": 1, "checks": []} | ({} if lifetimes is None else {"token_lifetimes": lifetimes})
    fake_kubectl(tmp_path / "bin", f"echo '{json.dumps(document)}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    report = await examine(environ, execs=True)
    found = {row.check: row.finding for row in report.rows if row.group == "pod"}
    assert (found["lifetime"].status if "lifetime" in found else None) == lifetime
    assert found["termination"].status == termination
    if lifetime is Status.WARNING:
        assert f"{TOKEN_FILE} is valid for 1 h and not for expirationSeconds 86400" in found["lifetime"].observed
        assert "Set expirationSeconds to 3600" in found["lifetime"].next_step


async def test_token_lifetime_is_read_inside_the_pod(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at:
        now = int(time.time())
        environ = at.with_token(iat=now - 60, nbf=now - 60, exp=now + 3540)
        report = await from_sidecar.examine(environ, None)
    assert report.token_lifetimes == {environ["AWS_WEB_IDENTITY_TOKEN_FILE"]: 3600.0}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Error from server (Forbidden): pods/exec is forbidden' >&2; exit 1", "pods/exec is forbidden"),
        ("exit 1", "no doctor in that image"),
        (f"echo '{json.dumps({'version': 99})}'", "version 99 of its document"),
        (f"echo '{json.dumps({'version': 1, 'checks': [], 'token_lifetimes': 5})}'", "cannot be read"),
        (f"echo '{json.dumps({'version': 1, 'checks': [], 'token_lifetimes': {'/token': 'x'}})}'", "cannot be read"),
    ],
)
async def test_failed_kubectl_exec_shows_the_command(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    fake_kubectl(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    finding = (await examine(environ, execs=True)).rows[-1].finding
    assert finding.status is Status.SKIPPED
    assert words in finding.observed
    assert finding.next_step.startswith("Run it yourself: kubectl exec -n shop cart")


async def test_missing_kubectl_skips_the_checks_inside(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "kubectl is not in PATH" in (await examine(environ, execs=True)).rows[-1].finding.observed


async def test_doctor_command_examines_a_pod(environ: dict[str, str]) -> None:
    async def doctor(*arguments: str) -> Any:
        command = [sys.executable, "-m", "sidecar", "doctor", *arguments]
        return await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True, check=False)

    done = await doctor("--pod", "shop/cart", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["side"], document["sts_calls_per_day"]) == (0, "pod", {})
    done = await doctor("--exec")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--context and --exec are for a Pod" in done.stderr
