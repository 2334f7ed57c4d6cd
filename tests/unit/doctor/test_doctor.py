"""Test doctor as a whole: working set-ups, suspicious set-ups, the printed report and the exit status."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar import cli
from sidecar.client.exchange import exchange_once
from sidecar.doctor.finding import Status
from sidecar.doctor.probes import aws
from sidecar.doctor.report import Report
from sidecar.doctor.run import GROUPS
from sidecar.local.trust_policy import default_policy
from sidecar.serving.http_message import Request, Response, text_response
from tests.support.exchanges import Resolver
from tests.support.processes import GUARD_SECONDS, our_program
from tests.support.served_peer import serving
from tests.unit.doctor.iam import served_iam
from tests.unit.doctor.set_up import SECRET, SLOW_MACHINE, UNREACHABLE, examine, set_up
from tests.unit.test_token import as_somebody_else

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


def found(report: Report, name: str) -> tuple[Status, str]:
    """Return the status and the text of the check with this id (`group.check`)."""
    (row,) = [row for row in report.rows if f"{row.group}.{row.check}" == name]
    return row.finding.status, row.finding.observed


def warnings_of(report: Report) -> list[str]:
    return [f"{row.group}.{row.check}" for row in report.rows if row.finding.status is Status.WARNING]


async def test_working_sidecar_passes_every_check(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at, served_iam() as iam:
        provider = f"arn:aws:iam::111122223333:oidc-provider/{at.issuer_key}"
        policy = default_policy(
            provider, at.issuer_key, subject="system:serviceaccount:default:app", audience="sts.amazonaws.com"
        )
        iam.roles["app"], iam.client_ids[provider] = policy, ["sts.amazonaws.com"]
        report = await examine(at.but(AWS_ENDPOINT_URL_IAM=iam.url))
    assert [row for row in report.rows if row.finding.status is not Status.OK] == []
    groups = {row.group for row in report.rows}
    assert groups == set(GROUPS) - {"environment", "sdks", "pod"}
    assert found(report, "trust.policy")[1].startswith("Statement 1 allows it: sub system:serviceaccount:default:app")
    assert found(report, "identity.caller")[1].startswith("arn:aws:sts::111122223333:assumed-role/app/default.app-0")
    assert {name: (count.least, count.most) for name, count in report.calls.items()} == {
        "configured": (48, 48),
        "3600": (48, 48),
        "43200": (4, 4),
        "max": (4, 48),
    }
    assert {action for action, _ in iam.calls} == {"GetRole", "GetOpenIDConnectProvider"}


async def test_working_application_passes_every_check(tmp_path: Path) -> None:
    (tmp_path / "site-packages" / "botocore-1.44.5.dist-info").mkdir(parents=True)
    async with set_up(tmp_path) as at:
        report = await examine(at.application, files=str(tmp_path))
    assert [row for row in report.rows if row.finding.status is not Status.OK] == []
    assert {row.group for row in report.rows} == {"environment", "endpoint", "identity", "sdks", "metadata"}


async def test_each_of_several_roles_is_checked_and_named(tmp_path: Path) -> None:
    roles = f"""
        roles:
          - {{name: default, role_arn: "arn:aws:iam::111122223333:role/app"}}
          - {{name: other, role_arn: "arn:aws:iam::111122223333:role/refusing",
              authorization_token_file: {tmp_path}/nowhere}}
    """
    (tmp_path / "roles.yaml").write_text(roles)
    async with set_up(tmp_path) as at:
        report = await examine(at.but(IRSA_SIDECAR_CONFIG=str(tmp_path / "roles.yaml")))
    first = report.first_failure
    assert first is not None
    assert (first.group, first.check, first.role) == ("exchange", "granted", "other")
    assert {row.role for row in report.rows if row.group == "exchange"} == {"default", "other"}
    assert {row.role for row in report.rows if row.group == "sts"} == {None}
    assert [row.role for row in report.rows if row.finding.status is Status.FAILED and row.group != "exchange"] == [
        "other"
    ]
    assert str(report.calls["configured"]) == "96"


async def test_missing_daemon_is_a_failure_only_in_a_pod(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at:
        environ = at.but(IRSA_SIDECAR_LISTEN=None)
        report = await examine(environ)
        assert found(report, "endpoint.connection")[0] is Status.SKIPPED
        assert report.status is Status.OK
        report = await examine({**environ, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
        assert found(report, "endpoint.connection")[0] is Status.FAILED
        report = await examine(at.but(IRSA_SIDECAR_LISTEN="127.0.0.1:0"))
        assert found(report, "endpoint.all")[0] is Status.SKIPPED


async def test_unreadable_token_suggests_fsgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with set_up(tmp_path) as at:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "token").write_text(at.services.token_file.read_text())
        (tmp_path / "token").chmod(0o000)
        with as_somebody_else():
            report = await examine(at.but(AWS_WEB_IDENTITY_TOKEN_FILE="token"))
            uid = os.geteuid()
    first = report.first_failure
    assert first is not None
    assert first.finding.observed.startswith(f"token may not be read by uid {uid}")
    assert "fsGroup" in first.finding.next_step


# Suspicious set-ups


@asynccontextmanager
async def node_metadata(*, wants_token: bool, role: str | None) -> AsyncIterator[str]:
    """Serve a fake metadata service. With `wants_token`, it supports only version 2."""

    async def respond(request: Request) -> Response:
        if request.method == "PUT" and request.header("x-aws-ec2-metadata-token-ttl-seconds"):
            return text_response(200, "imds-session")
        if wants_token and request.header("x-aws-ec2-metadata-token") != "imds-session":
            return text_response(401, "Unauthorized")
        return text_response(404, "Not Found") if role is None else text_response(200, role)

    async with serving(respond) as url:
        yield url


@pytest.mark.parametrize(
    ("wants_token", "role", "status", "words"),
    [
        (True, "node-role", Status.WARNING, "any process here can use the node's role node-role"),
        (False, "node-role", Status.WARNING, "any process here can use the node's role node-role"),
        (True, None, Status.OK, "the node has no role"),
    ],
)
async def test_reachable_node_role_is_a_warning(
    wants_token: bool,  # noqa: FBT001  a column of the table
    role: str | None,
    status: Status,
    words: str,
) -> None:
    async with node_metadata(wants_token=wants_token, role=role) as address:
        report = await examine({}, metadata_address=address)
    assert found(report, "metadata.reach")[0] is status
    assert words in found(report, "metadata.reach")[1]


async def test_metadata_service_is_not_called_with_no_imds() -> None:
    report = await examine({}, metadata_address=None)
    assert found(report, "metadata.all")[0] is Status.SKIPPED


async def test_sidecar_as_metadata_service_passes() -> None:
    environ = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:4774/",
        "AWS_REGION": "a",
        "AWS_DEFAULT_REGION": "a",
    }
    report = await examine(environ)
    assert report.status is Status.OK
    assert "the sidecar: SDKs do not use the node's metadata service" in found(report, "environment.metadata")[1]
    assert found(report, "endpoint.all")[0] is Status.SKIPPED
    report = await examine(environ | {"AWS_EC2_METADATA_DISABLED": "true"})
    assert found(report, "environment.metadata")[0] is Status.FAILED


APPLICATION_WARNINGS: Mapping[str, Mapping[str, str | None]] = {
    "environment.web_identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": ""},
    "environment.relative_uri": {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": ""},
    "environment.region": {"AWS_REGION": None},
    "environment.metadata": {"AWS_EC2_METADATA_DISABLED": None},
    "environment.no_proxy": {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ".svc"},
    "endpoint.secret": {"AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRET, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": None},
}


@pytest.mark.parametrize("check", APPLICATION_WARNINGS)
async def test_suspicious_variable_of_an_application_is_a_warning(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "is_installed", lambda: False)
    async with set_up(tmp_path) as at:
        report = await examine(at.application_but(**APPLICATION_WARNINGS[check]))
    assert warnings_of(report) == [check]
    assert report.status is Status.WARNING


async def test_token_with_a_late_renewal_is_a_warning(tmp_path: Path) -> None:
    now = int(time.time())
    async with set_up(tmp_path) as at:
        for changes, words in (
            ({"iat": now - 3500, "exp": now + 100}, "should have been renewed"),
            ({"iat": now - 4000, "nbf": None, "exp": now - 60}, "STS tolerates 300 s"),
        ):
            report = await examine(at.with_token(**changes))
            assert (report.status, warnings_of(report)) == (Status.WARNING, ["token.times"])
            assert words in found(report, "token.times")[1]


async def test_unreachable_fallback_region_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "is_installed", lambda: False)
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with set_up(tmp_path) as at:
        regions = {"IRSA_SIDECAR_STS_FALLBACK_REGIONS": "eu-central-1", "AWS_REGION": "eu-west-1"}
        report = await examine(at.but(AWS_ENDPOINT_URL_STS=None, **regions))
    assert found(report, "sts.fallback")[0] is Status.WARNING
    assert "sts.eu-central-1.amazonaws.com (name: " in found(report, "sts.fallback")[1]


async def test_suspicious_trust_policy_is_not_a_failure(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at, served_iam() as iam:
        provider = f"arn:aws:iam::111122223333:oidc-provider/{at.issuer_key}"
        iam.client_ids[provider] = ["sts.amazonaws.com"]
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringLike": {f"{at.issuer_key}:sub": "system:serviceaccount:*"}},
        }
        iam.roles["app"] = {"Version": "2012-10-17", "Statement": statement}
        environ = at.but(AWS_ENDPOINT_URL_IAM=iam.url)
        report = await examine(environ)
        assert warnings_of(report) == ["trust.breadth"]
        assert "any service account of this issuer may assume the role" in found(report, "trust.breadth")[1]
        statement["Condition"] = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
        report = await examine(environ)
        assert found(report, "trust.policy")[0] is Status.SKIPPED
        assert "IpAddress" in found(report, "trust.policy")[1]
        statement["Condition"] = {"StringEquals": {f"{at.issuer_key}:sub": "system:serviceaccount:shop:cart"}}
        report = await examine(environ)
        assert warnings_of(report) == ["trust.policy"]
        assert "STS still accepts the token" in found(report, "trust.policy")[1]


async def test_denied_iam_call_is_shown_as_the_reason(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at, served_iam() as iam:
        iam.denies = True
        report = await examine(at.but(AWS_ENDPOINT_URL_IAM=iam.url))
        signers = {signer for _, signer in iam.calls}
    status, observed = found(report, "trust.policy")
    assert status is Status.SKIPPED
    assert "AccessDenied: not authorized to perform: iam:GetRole" in observed
    assert len(signers) == 1
    assert signers.pop().startswith("ASIA")


async def test_unreachable_iam_skips_the_trust_checks(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at:
        report = await examine(at.but(AWS_ENDPOINT_URL_IAM=UNREACHABLE))
    status, observed = found(report, "trust.policy")
    assert status is Status.SKIPPED
    assert "Could not connect to the endpoint URL" in observed
    assert report.status is Status.OK


async def test_credentials_of_another_account_do_not_read_iam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with set_up(tmp_path) as at, served_iam() as iam:
        credentials = await exchange_once(at.environ)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key),
            ("AWS_SESSION_TOKEN", credentials.session_token),
        ):
            monkeypatch.setenv(name, value)
        changes = {"AWS_ROLE_ARN": "arn:aws:iam::444455556666:role/app", "AWS_ACCESS_KEY_ID": credentials.access_key_id}
        report = await examine(at.but(AWS_ENDPOINT_URL_IAM=iam.url, **changes))
        assert iam.calls == []
    assert "which is not in account 444455556666" in found(report, "trust.policy")[1]


async def test_rejected_own_credentials_are_reported_with_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    async with set_up(tmp_path) as at, served_iam() as iam:
        changes = {"AWS_ROLE_ARN": "arn:aws:iam::444455556666:role/app", "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}
        report = await examine(at.but(AWS_ENDPOINT_URL_IAM=iam.url, **changes))
        assert iam.calls == []
    observed = found(report, "trust.policy")[1]
    assert "GetCallerIdentity with your own credentials failed: InvalidClientTokenId" in observed


# The command


async def doctor(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    with trio.fail_after(GUARD_SECONDS):
        return await trio.run_process(
            [*our_program(SLOW_MACHINE), "doctor", "--imds-address", UNREACHABLE, *arguments],
            env=dict(environ),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


async def test_exit_status_and_json_show_the_first_failure(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at:
        done = await doctor(at.environ, "--json")
        document = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (document["version"], document["side"], document["status"]) == (1, "sidecar", "ok")
        assert document["first_failure"] is None
        assert document["sts_calls_per_day"]["max"] == {"least": 4, "most": 48}
        fields = {"group", "check", "role", "container", "status", "observed", "next_step"}
        assert all(set(check) == fields for check in document["checks"])

        done = await doctor(at.but(AWS_ROLE_ARN=at.role("refusing")), "--json")
        document = json.loads(done.stdout)
        assert (done.returncode, document["status"]) == (1, "failed")
        assert document["first_failure"]["check"] == "granted"
        assert document["first_failure"] in document["checks"]

        warned = at.application_but(AWS_EC2_METADATA_DISABLED=None)
        assert (await doctor(warned)).returncode == 0
        assert (await doctor(warned, "--strict")).returncode == 1


async def test_text_starts_with_the_first_failure_and_is_wrapped(tmp_path: Path) -> None:
    async with set_up(tmp_path) as at:
        done = await doctor(at.but(AWS_ENDPOINT_URL_STS=UNREACHABLE, COLUMNS="80"))
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert lines[0] == "Failed: no connection to 127.0.0.1:1 (Connection refused)."
    assert lines[1].startswith("Next: Check that STS listens there")
    assert max(len(line) for line in lines if "/" not in line) <= 80
    assert "\x1b" not in done.stdout.decode()


async def test_missing_packages_appear_as_next_steps(tmp_path: Path) -> None:
    """Run without botocore, cryptography and rich, as in the image for Pods."""
    prelude = "import sys; sys.modules.update(botocore=None, cryptography=None, rich=None)"
    arguments = ["doctor", "--json", "--imds-address", UNREACHABLE]
    code = f"{prelude}; from sidecar.cli import main; raise SystemExit(main({arguments}))"
    async with set_up(tmp_path) as at:
        environ = at.but(AWS_ENDPOINT_URL_IAM=UNREACHABLE)
        with trio.fail_after(GUARD_SECONDS):
            done = await trio.run_process(
                [sys.executable, "-c", code], env=environ, capture_stdout=True, capture_stderr=True, check=False
            )
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    skipped = {check["check"]: check for check in document["checks"] if check["status"] == "skipped"}
    assert set(skipped) == {"verification", "policy", "breadth", "session", "caller"}
    for name in ("verification", "policy", "caller"):
        assert "make tools" in skipped[name]["next_step"]


async def test_closed_pipe_causes_no_traceback(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = await trio.run_process(
        [sys.executable, "-m", "sidecar", "doctor", "--no-imds"],
        env={},
        stdout=write_end,
        capture_stderr=True,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1)")
async def test_token_mounted_by_sub_path_is_found(tmp_path: Path) -> None:
    """Mount the file without its volume, as the kubelet does for a subPath, in a new mount namespace."""
    async with set_up(tmp_path) as at:
        mounted = tmp_path / "mounted-token"
        mounted.touch()
        script = f'mount --bind "$0" {mounted} && exec {sys.executable} -m sidecar doctor --json --no-imds'
        command = [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            os.path.realpath(at.services.token_file),
        ]
        with trio.fail_after(GUARD_SECONDS):
            environ = {**at.but(AWS_WEB_IDENTITY_TOKEN_FILE=str(mounted)), "PATH": os.environ["PATH"]}
            done = await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True, check=False)
    if b"mount" in done.stderr or b"unshare" in done.stderr:
        pytest.skip("a mount needs user namespaces")
    first = json.loads(done.stdout)["first_failure"]
    assert (done.returncode, first["check"]) == (1, "volume")
    assert f"{mounted} is mounted by subPath: it is never renewed, and works until" in first["observed"]


@pytest.mark.skipif(not os.path.exists("/proc/self/oom_score_adj"), reason="not Linux")
async def test_doctor_has_the_highest_oom_score() -> None:
    prelude = "import atexit; atexit.register(lambda: print(open('/proc/self/oom_score_adj').read()))"
    done = await trio.run_process([*our_program(prelude), "doctor", "--help"], capture_stdout=True)
    assert done.stdout.split()[-1] == b"1000"


def test_help_states_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    assert "Exit status: 0 no failure, 1 a failure" in capsys.readouterr().out
