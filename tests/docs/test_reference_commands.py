"""Check that the reference has every command, flag and exit status."""

from pkgutil import iter_modules

import sidecar.commands
import sidecar.setup.steps
from sidecar.config.settings import SETTINGS
from tests.docs.reference.command_notes import EXIT_STATUS
from tests.docs.reference.commands import commands, shown_actions
from tests.docs.reference.pages import path_of

FLAGS = {each.name: [flag for action in shown_actions(each) for flag in action.option_strings] for each in commands()}


def test_every_module_of_a_command_is_listed() -> None:
    listed = {each.module.__name__ for each in commands()}
    for package in (sidecar.commands, sidecar.setup.steps):
        for found in iter_modules(package.__path__, f"{package.__name__}."):
            module = __import__(found.name, fromlist=["add_arguments"])
            assert (found.name in listed) == hasattr(module, "add_arguments"), found.name


def test_page_has_every_flag_of_every_command() -> None:
    text = dict(zip(FLAGS, _sections(), strict=True))
    for name, flags in FLAGS.items():
        assert [flag for flag in flags if f"{flag} " not in text[name] and f"{flag}`" not in text[name]] == []


def _sections() -> list[str]:
    """Return the section of each command, in the order of the page."""
    return path_of("commands").read_text(encoding="utf-8").split("\n## `irsa-sidecar ")[1:]


def test_every_setting_is_a_flag_of_run() -> None:
    assert {setting.flag for setting in SETTINGS} <= set(FLAGS["run"])


def test_exit_status_belongs_to_a_command() -> None:
    assert set(EXIT_STATUS) <= set(FLAGS)


def test_every_exit_code_flag_has_documented_statuses() -> None:
    assert {name for name, flags in FLAGS.items() if "--exit-code" in flags} <= set(EXIT_STATUS)
