"""The messages of our errors: their wording is in messages.txt, and each has the same form."""

import pytest

from tests.unit.messages import GOLDEN, Message, golden_text, messages


def test_messages_are_those_of_the_golden_file() -> None:
    """`make messages` writes the file. Its diff shows what people will read."""
    assert golden_text() == GOLDEN.read_text()


@pytest.mark.parametrize("message", [each for each in messages() if each.fix], ids=lambda each: each.problem[:40])
def test_message_has_a_problem_and_an_imperative_fix(message: Message) -> None:
    assert not message.problem.endswith((".", ":", ";"))
    assert message.fix[0].isupper() or message.fix.startswith(("{…}", "`"))
    assert not message.fix.endswith(".")
