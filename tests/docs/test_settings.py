"""Check the table of settings in README.md: each setting of `run` with its default."""

import re
from pathlib import Path

import pytest

from sidecar.config.settings import PREFIX, SETTINGS, Setting

README = Path(__file__).parents[2] / "README.md"
_ROW = re.compile(r"^\| (`IRSA_SIDECAR_.+?) \| (.+?) \| .+ \|$", re.MULTILINE)


def documented() -> dict[str, str]:
    """Return the default of each variable in the table; a row may name several variables, with a default each."""
    found = {}
    for names, defaults in _ROW.findall(README.read_text(encoding="utf-8")):
        for name, default in zip(names.split(", "), defaults.split(", "), strict=True):
            found[name.strip("`").removeprefix(PREFIX).removeprefix("_")] = default.strip("`")
    return found


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_setting_is_listed_with_its_default(setting: Setting) -> None:
    default = documented()[setting.variable]
    if setting.variable != "LOG_FORMAT":  # its default depends on the terminal
        assert default == (setting.default or "none")


def test_table_has_no_other_settings() -> None:
    assert set(documented()) == {setting.variable for setting in SETTINGS}
