"""Test the form of commit messages."""

from pathlib import Path

import pytest

from tests.support.commit_subject import main, problems


@pytest.mark.parametrize(
    "message",
    [
        "sts: accept regions of a new partition",
        "setup pod: keep comments\n\nA reason.\n",
        "tests, docs: rename a case\n# Please enter the commit message\n",
        "store.py: keep the newer credentials",
        "Merge branch 'a' into b, which git wrote and which is longer than a subject may be",
        "fixup! sts: accept regions",
    ],
)
def test_valid_message_is_accepted(message: str) -> None:
    assert list(problems(message)) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("accept regions", "no area"),
        ("", "no area"),
        ("sts:accept", "no area"),
        ("sts: " + "a" * 61, "66 characters"),
        ("sts: accept regions.", "full stop"),
        ("sts: accept regions\nbecause", "second line"),
    ],
)
def test_invalid_message_is_rejected(message: str, expected: str) -> None:
    (problem,) = problems(message)
    assert expected in problem


def test_longest_subject_is_accepted() -> None:
    assert list(problems("sts: " + "a" * 60)) == []


def test_exit_status_reports_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text("no form.")
    assert main(str(message)) == 1
    assert capsys.readouterr().err.count("commit message: ") == 2
