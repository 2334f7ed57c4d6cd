"""Test the command `irsa-sidecar setup` itself."""

import subprocess
import sys
from importlib import import_module

import pytest

from sidecar import cli
from sidecar.commands.setup import STEPS
from tests.support.unloaded_modules import unload
from tests.unit.setup.conftest import run_setup


def test_help_of_setup_lists_all_steps_with_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        cli.main(["setup", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for step, summary in STEPS.items():
        assert f"{step} " in shown
        assert summary in shown
        with pytest.raises(SystemExit) as ended:
            cli.main(["setup", step, "--help"])
        assert ended.value.code == 0
        assert f"irsa-sidecar setup {step}" in capsys.readouterr().out.partition("example")[2]


@pytest.mark.parametrize("arguments", [["rol"], ["role"], ["role", "cart", "--issue", "x"], ["issuer-documents"]])
def test_wrong_usage_exits_with_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["setup", *arguments])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


ARGUMENTS = {
    "oidc-provider": ["--cluster", "shop"],
    "role": ["cart", "--service-account", "shop/cart"],
    "service-account": ["--name", "cart", "--role-arn", "arn:aws:iam::111122223333:role/cart"],
    "issuer-documents": ["--directory", "x"],
}


@pytest.mark.parametrize("step", ARGUMENTS)
def test_missing_extra_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    unload(monkeypatch, "sidecar.setup", "sidecar.kubernetes", "botocore", "httpx2", "lightkube")
    for name in ("botocore", "lightkube"):
        monkeypatch.setitem(sys.modules, name, None)
    done = run_setup(capsys, step, *ARGUMENTS[step])
    assert done.status == 2
    assert "` needs the package " in done.err
    assert ", of the extra setup. Run `make tools` in a checkout" in done.err


def test_step_pod_needs_no_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    unload(monkeypatch, "sidecar.setup")
    for name in ("botocore", "lightkube", "certifi", "cryptography"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        run_setup(capsys, "pod", "--help")
    assert "--template-path" in capsys.readouterr().out


def test_import_error_in_our_code_is_not_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sidecar.setup.steps.role", None)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["setup", "role"])


@pytest.mark.parametrize("step", STEPS)
def test_each_step_has_its_own_module_with_an_example(step: str) -> None:
    module = import_module(f"sidecar.setup.steps.{step.replace('-', '_')}")
    assert module.EXAMPLE.startswith("example")
    assert module.__doc__


def test_aws_steps_import_no_kubernetes_or_cryptography() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['lightkube', 'cryptography']));"
        "import sidecar.setup.steps.role, sidecar.setup.steps.oidc_provider"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
