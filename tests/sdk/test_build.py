"""Test that a missing toolchain is reported, and that its clients are skipped."""

from pathlib import Path

import pytest

from tests.sdk import build, plan
from tests.sdk.catalogue import BY_NAME, CLIENTS


@pytest.fixture
def no_toolchains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "BUILDS", tmp_path)


def test_missing_toolchain_is_reported_with_a_client(no_toolchains: None) -> None:
    with pytest.raises(build.BuildError) as missing:
        build.build_all(CLIENTS)
    assert "cargo is not installed: AWS SDK for Rust (aws-config) needs it." in str(missing.value)
    assert {line.split()[0] for line in str(missing.value).splitlines()} == {
        *("node", "npm", "go", "java", "javac", "mvn", "cargo")
    }


def test_error_of_a_failed_build_shows_the_tools_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "BUILDS", tmp_path)
    monkeypatch.setitem(build.RECIPES, "venv", build.Recipe((), (("{python}", "-c", "exit('no room left')"),), ()))
    with pytest.raises(build.BuildError, match="no room left"):
        build.build_all([BY_NAME["object_store"]])
    assert not build.is_built(BY_NAME["object_store"])


@pytest.mark.skipif(plan.IS_WHOLE, reason="a whole run includes every client")
def test_clients_without_a_build_run_without_toolchains(no_toolchains: None) -> None:
    assert {client.name for client, _ in plan.played()} == {"boto3", "aws_cli_v1"}
    left_out = list(plan.left_out())
    assert "AWS SDK for Rust (aws-config) (no cargo)" in left_out
    assert "aiobotocore (not built)" in left_out
