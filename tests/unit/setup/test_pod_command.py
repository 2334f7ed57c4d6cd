"""Test the command `setup pod`: its flags, its output and its errors."""

import io
import sys
from pathlib import Path

import pytest
import yaml

from sidecar.commands.parsing import run_command
from sidecar.errors import ConfigurationError
from sidecar.setup.steps import pod
from tests.unit.injection.pods import ARN
from tests.unit.setup.pod_manifests import MANIFEST, SPEC, deployment, with_service_account


def run(*arguments: str) -> int:
    return run_command(pod, "irsa-sidecar setup pod", arguments)


def test_manifest_goes_to_stdout_and_warnings_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"containers": [*SPEC["containers"], {"name": "own", "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(deployment(spec)))
    flags = ["--image", "x:1", "--region", "eu-west-1", "--role-arn", ARN, "--env", "HTTPS_PROXY=http://p"]
    assert run(str(tmp_path / "m.yaml"), *flags) == 0
    shown = capsys.readouterr()
    sidecar = yaml.safe_load(shown.out)["spec"]["template"]["spec"]["initContainers"][0]
    assert {"name": "HTTPS_PROXY", "value": "http://p"} in sidecar["env"]
    assert "Deployment cart: Container own gets no credentials" in shown.err


def test_dry_run_shows_the_difference(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MANIFEST.encode())))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert run("--image", "x:1", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "--- stdin"
    assert not [line for line in lines[2:] if line.startswith("-")]
    assert "+      initContainers:" in lines


def test_no_native_sidecar_adds_an_ordinary_container(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(deployment(SPEC)))
    flags = ["--image", "x:1", "--region", "eu-west-1", "--role-arn", ARN, "--no-native-sidecar"]
    assert run(str(tmp_path / "m.yaml"), *flags) == 0
    spec = yaml.safe_load(capsys.readouterr().out)["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["containers"]] == ["irsa-sidecar", "app"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml", "--region", "eu-west-1"], "FILE is missing.yaml, which cannot be read"),
        (["m.yaml"], "Neither --region nor AWS_REGION is set"),
        (["m.yaml", "--region", "here there"], "--region is 'here there'"),
        (["m.yaml", "--region", "eu-west-1", "--role-arn", "app"], "--role-arn is 'app'"),
        (["m.yaml", "--region", "eu-west-1", "--env", "x"], "--env is 'x'"),
        (["m.yaml", "--region", "eu-west-1", "--env", "AWS_USE_FIPS_ENDPOINT=1"], "AWS_USE_FIPS_ENDPOINT is '1'"),
        (["empty.yaml", "--region", "eu-west-1"], "empty.yaml has no Pod"),
        (["m.yaml", "--region", "eu-west-1", "--namespace", "a/b"], "--namespace is 'a/b'"),
        (["m.yaml", "--region", "eu-west-1", "--namespace", ""], "--namespace is ''"),
        (["m.yaml", "--region", "eu-west-1", "--template-path", "spec..x"], "--template-path is 'spec..x'"),
        (["m.yaml", "--region", "eu-west-1", "--template-path", "spec.x"], "--template-path is spec.x"),
        (["binary.yaml", "--region", "eu-west-1"], "binary.yaml is"),
    ],
)
def test_error_of_wrong_usage_names_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(deployment(SPEC)))
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError) as caught:
        run(*arguments, "--image", "x:1")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_error_of_a_wrong_region_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "EU")
    with pytest.raises(ConfigurationError, match=f"^{name} is 'EU'"):
        run("m.yaml", "--image", "x:1")


def test_flags_change_the_written_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(with_service_account("shop", serviceAccountName="cart"))
    assert run(str(path), "--image", "x:1", "--region", "eu-west-1", "--namespace", "shop") == 0
    assert ARN in capsys.readouterr().out.split("---")[0]
    path.write_text("apiVersion: a/v1\nkind: X\nspec: {driver: {template: {spec: {containers: [{name: app}]}}}}\n")
    flags = ["--image", "x:1", "--region", "eu-west-1", "--role-arn", ARN, "--template-path", "spec.driver.template"]
    assert run(str(path), *flags) == 0
    assert "irsa-sidecar-token" in capsys.readouterr().out


def test_rejected_manifest_produces_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = yaml.safe_dump_all([deployment(SPEC), deployment({**SPEC, "hostNetwork": True})])
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigurationError):
        run(str(tmp_path / "m.yaml"), "--image", "x:1", "--region", "eu-west-1", "--role-arn", ARN)
    assert capsys.readouterr().out == ""


def test_progress_is_shown_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump_all([deployment(SPEC)] * 20)
    outputs = {}
    for is_terminal in (True, False):
        stderr = io.StringIO()
        monkeypatch.setattr(stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run("--image", "x:1", "--region", "eu-west-1", "--role-arn", ARN) == 0
        outputs[is_terminal] = stderr.getvalue()
    assert "1 of 20 Pods" in outputs[True]
    assert outputs[True].partition("irsa-sidecar: next: ")[0].endswith("\r\033[K")
    assert outputs[False] == ""


def test_help_has_an_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        run("--help")
    assert "kubectl apply -f -" in capsys.readouterr().out
