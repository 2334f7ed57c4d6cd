"""Test the import of modules that need packages which may be missing, incomplete or unusable."""

import sys
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.extras import HOW_TO_INSTALL, import_extra


def modules_in(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str) -> str:
    (directory / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(directory)
    return name


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("import no_such_package.part", "`irsa-sidecar x` needs the package no_such_package, of the extra setup"),
        (
            "raise ImportError('libssl.so.3: cannot open shared object file', name='broken._rust', path='/x.so')",
            "`irsa-sidecar x` cannot use the installed package broken (libssl.so.3: cannot open shared object file)",
        ),
        ("from json import no_such_name", "cannot use the installed package json (cannot import name 'no_such_name'"),
    ],
)
def test_unusable_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, problem: str) -> None:
    name = modules_in(tmp_path, monkeypatch, "needs_an_extra", content)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigurationError) as caught:
        import_extra(name, "irsa-sidecar x", "setup")
    assert problem in str(caught.value)
    assert caught.value.fix == HOW_TO_INSTALL


@pytest.mark.parametrize("content", ["from sidecar.errors import no_such_name", "import sidecar.no_such_module"])
def test_mistake_in_our_code_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    name = modules_in(tmp_path, monkeypatch, "has_a_bug", content)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError):
        import_extra(name, "irsa-sidecar x", "setup")
