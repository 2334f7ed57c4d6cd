"""Check that the reference has every setting and every variable that the program reads."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import sidecar
from sidecar.config.settings import PREFIX, SETTINGS, Setting, read_config
from sidecar.errors import ConfigurationError
from tests.docs.reference.settings_notes import NOTES, OF_COMMANDS, OF_STS, OF_THE_NETWORK

PACKAGE = Path(sidecar.__file__).parent

NOT_SETTINGS = {"HOME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_EXEC_INFO"}
"""The variables that the system or Kubernetes sets."""

OF_THE_APPLICATION = ("doctor/checks/", "doctor/probes/environment.py", "doctor/location.py")
"""The modules that read an application's variables to find problems, and not as settings."""


class Recorder(dict[str, str]):
    """An environment that remembers which variables were read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.read.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)


def test_page_lists_the_sts_variables_that_run_reads() -> None:
    environ = Recorder({"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/app", "AWS_WEB_IDENTITY_TOKEN_FILE": "token"})
    read_config(environ, {})
    ours = {f"{PREFIX}{setting.variable}" for setting in SETTINGS}
    assert {each.name for each in OF_STS} == environ.read - ours


def test_every_setting_has_a_note() -> None:
    assert list(NOTES) == [setting.variable for setting in SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_setting_accepts_examples_and_rejects_a_wrong_value(setting: Setting) -> None:
    note = NOTES[setting.variable]
    for text in (*note.examples, *([setting.default] if setting.default else [])):
        setting.parse(setting.flag, text)
    with pytest.raises(ConfigurationError):
        setting.parse(setting.flag, note.rejected)


def test_every_variable_that_is_read_is_listed() -> None:
    listed = {each.name for each in (*OF_STS, *OF_THE_NETWORK, *OF_COMMANDS)}
    listed |= {f"{PREFIX}{setting.variable}" for setting in SETTINGS}
    found = {name.upper() for name in _names_read()}
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in found
    assert found - listed == NOT_SETTINGS


def _names_read() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.relative_to(PACKAGE).as_posix().startswith(OF_THE_APPLICATION):
            yield from names_read_in(path.read_text(encoding="utf-8"))


def names_read_in(source: str) -> Iterator[str]:
    """Yield the names in `environ.get(NAME)` and `environ[NAME]`, where NAME is a string or a module's constant."""
    module = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        name = _name_node(node)
        if isinstance(name, ast.Constant):
            yield str(name.value)
        elif isinstance(name, ast.Name) and isinstance(constants.get(name.id), str):
            yield str(constants[name.id])


def _name_node(node: ast.AST) -> ast.AST | None:
    """Return the node of the variable's name, or None if this node does not read a variable."""
    if isinstance(node, ast.Subscript) and _is_environ(node.value):
        return node.slice
    is_get = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
    return node.args[0] if is_get and _is_environ(node.func.value) and node.args else None  # type: ignore[attr-defined]


def _is_environ(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "environ") or (
        isinstance(node, ast.Attribute) and node.attr == "environ"
    )


def test_names_of_variables_are_found() -> None:
    source = "A = 'X_1'\nos.environ.get('X_0')\nenviron[A]\nenviron.get(A)\nother.get('X_2')\nenviron.get(b)\n"
    assert list(names_read_in(source)) == ["X_0", "X_1", "X_1"]
