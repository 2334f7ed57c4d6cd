"""Test the names of programs that are built from Go modules, and the selection of a version of Kubernetes."""

import os
from pathlib import Path

import pytest

from release.go_programs import HELM_4, UNUSED_SECONDS, GoProgram, remove_unused
from tests.cluster.binaries import MINORS, kubernetes_version, minor_version


def test_program_is_named_after_its_folder() -> None:
    assert HELM_4.name == "helm4"


def test_versioned_program_is_named_after_both_folders() -> None:
    assert GoProgram(Path("tests/cluster/kubelab/v1.37")).name == "kubelab-v1.37"


@pytest.mark.parametrize("minor", MINORS)
def test_each_minor_of_kubernetes_names_its_patch_version(minor: str) -> None:
    assert kubernetes_version(minor).startswith(f"{minor}.")


def test_newest_kubernetes_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES", raising=False)
    assert minor_version() == MINORS[-1] == max(MINORS)


@pytest.mark.parametrize("minor", MINORS)
def test_variable_selects_the_version_of_kubernetes(monkeypatch: pytest.MonkeyPatch, minor: str) -> None:
    monkeypatch.setenv("KUBERNETES", minor)
    assert minor_version() == minor


def test_kubernetes_that_cannot_be_built_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES", "1.28")
    with pytest.raises(SystemExit, match=r"KUBERNETES is 1\.28: .* Choose one of"):
        minor_version()


def test_cache_drops_unused_builds_of_the_same_program(tmp_path: Path) -> None:
    now, old, new = 1_800_000_000.0, UNUSED_SECONDS + 1, UNUSED_SECONDS - 1
    ages = {"helm-" + "a" * 16: old, "helm-" + "b" * 16: new, "helm-v2-" + "a" * 16: old, "helm-notes": old}
    for name, age in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    remove_unused("helm", tmp_path, now)
    assert {path.name for path in tmp_path.iterdir()} == ages.keys() - {"helm-" + "a" * 16}
