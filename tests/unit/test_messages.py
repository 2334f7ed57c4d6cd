"""Test the messages of our errors: messages.txt has their wording, and all have the same form."""

import pytest

from tests.unit.messages import GOLDEN, Message, golden_text, messages


def test_golden_file_has_all_messages() -> None:
    """Compare with the file that `make messages` writes. Its diff shows reviewers the new wording."""
    assert golden_text() == GOLDEN.read_text()


@pytest.mark.parametrize("message", [each for each in messages() if each.fix], ids=lambda each: each.problem[:40])
def test_message_has_a_problem_and_an_imperative_fix(message: Message) -> None:
    assert not message.problem.endswith((".", ":", ";"))
    assert message.fix[0].isupper() or message.fix.startswith(("{…}", "`"))
    assert not message.fix.endswith(".")
