"""Search the output of `doctor` for secrets, because `doctor` reads all of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.doctor.report import as_json, as_text
from sidecar.doctor.run import examine
from tests.end_to_end.secret_search import (
    AUTHORIZATION,
    BAD_REPLIES,
    PROXY_PASSWORD,
    SECRET_ACCESS_KEY,
    SESSION_TOKEN,
    STARTS_THAT_FAIL,
    Pod,
    granted,
    leaks,
)
from tests.support.fakes.scripted_sts import Reply
from tests.support.processes import scripted_sts

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


NOWHERE = {
    "HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:1",
    "NO_PROXY": "",
}
"""The variables for a proxy that does not exist, so that no request reaches the token's issuer."""


async def _doctor_output(environ: Mapping[str, str]) -> str:
    report = await examine(environ, metadata_address=None)
    return as_text(report, width=200, colours=False) + as_json(report) + repr(report)


@pytest.mark.parametrize("what", BAD_REPLIES)
async def test_doctor_hides_secrets_in_bad_sts_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    async with scripted_sts(BAD_REPLIES[what]) as sts:
        shown = await _doctor_output(Pod(tmp_path, sts.url).with_authorization | NOWHERE)
    assert not leaks(shown)


ECHOES = {
    "an error with the secret": Reply(403, json.dumps({"message": f"not {AUTHORIZATION}"}).encode()),
    "an error with half of the secret": Reply(403, json.dumps({"Message": f"not {AUTHORIZATION[:20]}"}).encode()),
    "an error with the secret as a name": Reply(403, json.dumps({AUTHORIZATION: AUTHORIZATION}).encode()),
    "credentials": Reply(
        200,
        json.dumps(
            dict.fromkeys(("AccessKeyId", "Expiration", "RoleArn", AUTHORIZATION), AUTHORIZATION)
            | {"SecretAccessKey": SECRET_ACCESS_KEY, "Token": SESSION_TOKEN}
        ).encode(),
    ),
    "text": Reply(200, AUTHORIZATION.encode()),
    "not HTTP": Reply(raw=AUTHORIZATION.encode() + b"\r\n\r\n"),
}


@pytest.mark.parametrize("what", ECHOES)
async def test_doctor_hides_secrets_in_responses_of_another_program(tmp_path: Path, what: str) -> None:
    async with scripted_sts(ECHOES[what]) as other:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{other.url}v1/credentials?x={AUTHORIZATION}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": AUTHORIZATION,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
            "AWS_REGION": "eu-west-1",
        }
        shown = await _doctor_output(environment | NOWHERE)
    assert not leaks(shown)


@pytest.mark.parametrize("form", ["--strict", "--json"])
async def test_doctor_prints_and_writes_no_secret(tmp_path: Path, form: str) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        done = await pod.run(
            "doctor", form, "--no-imds", **NOWHERE, IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(pod.authorization_file)
        )
    assert b"STS issues ASIAFAKE0001" in done.stdout
    assert done.stderr == b""
    assert not leaks(done.stdout)
    assert pod.written() == {}


@pytest.mark.parametrize("what", STARTS_THAT_FAIL)
async def test_doctor_hides_the_secret_in_an_unusable_setting(tmp_path: Path, what: str) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    changes = {name: value.format(token_file=pod.token_file) for name, value in STARTS_THAT_FAIL[what].items()}
    done = await pod.run("doctor", "--no-imds", **NOWHERE | changes)
    assert done.returncode == 1
    assert done.stdout.startswith(b"Failed: ")
    assert not leaks(done.stdout + done.stderr)
