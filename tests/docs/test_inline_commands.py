"""
Check that the program accepts the arguments of each command inside a sentence of the documentation.

Rule: a code span is a command if it has arguments. A span without arguments is only the name of a command or a step.
"""

import re
import shlex
from collections.abc import Iterator

import pytest

from sidecar import cli
from sidecar.commands.setup import STEPS
from tests.docs.test_shell_blocks import parsed  # noqa: F401  a fixture
from tests.support.documents import pages, read

_BLOCK = re.compile(r"^( *)```.*?^\1```[^\n]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:^| -- )irsa-sidecar ([^|>\[]+)$")


def inline_commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each command in a code span. Commands in blocks are tested elsewhere."""
    for span in _SPAN.findall(_BLOCK.sub("", text)):
        if command := _COMMAND.search(span):
            arguments = shlex.split(command[1])
            options = [word for word in arguments if word not in STEPS][1:]
            if options and options not in (["--pod"], ["STEP"]):
                yield arguments


CALLS = [(page, arguments) for page in pages() for arguments in inline_commands(read(page))]


@pytest.mark.usefixtures("parsed")
@pytest.mark.parametrize(("page", "arguments"), CALLS, ids=lambda value: value if isinstance(value, str) else None)
def test_command_in_a_sentence_is_accepted(page: str, arguments: list[str]) -> None:
    assert page
    assert cli.main(arguments) == 0


def test_commands_are_found_in_sentences() -> None:
    text = "`irsa-sidecar setup pod` or `irsa-sidecar exec -- aws s3 ls`\n```sh\n`irsa-sidecar token --verify`\n```\n"
    found = list(
        inline_commands(f"{text}`kubectl exec POD -- irsa-sidecar token --verify`, `irsa-sidecar doctor --pod`")
    )
    assert found == [["exec", "--", "aws", "s3", "ls"], ["token", "--verify"]]
    assert len(CALLS) >= 20
