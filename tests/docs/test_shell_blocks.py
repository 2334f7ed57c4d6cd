"""
Check the shell blocks of the documentation: a test runs each block without changes, or a note explains why none does.

The blocks of one page run in one shell, in order (tests/docs/checkout.py).
"""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.commands.setup import STEPS
from tests.docs.checkout import END, account, make_checkout, run
from tests.support.documents import NOTES, ROOT, Block, blocks, lines_of, pages, parse
from tests.support.fakes.moto_server import MotoServer, moto_server

PROGRAM = "irsa-sidecar"
SHELL_WORDS = {"!", "do", "else", "eval", "exec", "if", "then", "time", "while"}
"""The words of the shell that may precede a command."""

WITHOUT_ACCOUNT = {"README.md", "docs/local.md", "docs/local-sts.md"}
"""The pages for people who have no AWS account."""

AFTER = {"docs/uninstall.md": "docs/migrate.md", "docs/upgrade.md": "docs/manifests.md"}
"""The prerequisite of a page, by the page. The blocks of the prerequisite run first."""

ACCOUNT_ID = "111122223333"
"""The account number in all pages."""

SHELL_BLOCKS = [block for page in pages() for block in blocks(page, language="sh")]
"""Every shell block of the pages."""


def is_run_here(block: Block) -> bool:
    return block.language == "sh" and not {"not run", "run by"} & set(block.notes)


def runnable(page: str) -> list[Block]:
    """Return the shell blocks of a page that run here, and the files that they read."""
    return [block for block in blocks(page) if is_run_here(block) or "file" in block.notes]


RUN_PAGES = [page for page in pages() if any(map(is_run_here, blocks(page)))]


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    with moto_server(ACCOUNT_ID, MOTO_IAM_LOAD_MANAGED_POLICIES="true") as server:
        yield server


@pytest.mark.parametrize("page", RUN_PAGES)
def test_shell_blocks_run_without_changes(page: str, tmp_path: Path, moto: MotoServer) -> None:
    environment = make_checkout(tmp_path)
    found = [*(runnable(AFTER[page]) if page in AFTER else ()), *runnable(page)]
    if page in WITHOUT_ACCOUNT:
        done = run(found, tmp_path, environment)
    else:
        with account(moto, tmp_path) as more:
            done = run(found, tmp_path, environment | more)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(f"{END}\n"), done.stdout


def test_block_that_exits_the_shell_is_detected(tmp_path: Path) -> None:
    found = parse("page.md", "```sh\nexit 0\n```\n```sh\nfalse\n```\n")
    done = run(found, tmp_path, {"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (0, "--- page.md:1\n")


def test_fences_have_a_known_language() -> None:
    """Write `sh` for commands: a block of `bash` or `console` would not be checked. Output has no language."""
    fences = {block.language for page in pages() for block in blocks(page)}
    assert fences <= {"", "hcl", "ini", "json", "promql", "sh", "sql", "text", "yaml"}


@pytest.mark.parametrize("page", pages())
def test_every_fence_of_a_page_is_read(page: str) -> None:
    """Write three backticks and the language, without a space. The reader of blocks recognizes only this form."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"^ *(?:~~~|````|``` |```\w+[^\w\n]).*", text, re.MULTILINE) == []


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_shell_block_is_valid_bash(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_skipped_shell_block_has_a_reason(block: Block) -> None:
    reason = block.notes.get("not run")
    assert reason is None or len(reason.split()) > 2


@pytest.mark.parametrize("block", [block for block in SHELL_BLOCKS if "run by" in block.notes], ids=str)
def test_page_is_in_the_test_that_runs_its_block(block: Block) -> None:
    assert f'"{block.page}"' in (ROOT / block.notes["run by"]).read_text(encoding="utf-8")


def test_most_shell_blocks_are_run() -> None:
    """Count the blocks that no test runs."""
    not_run = [str(block) for block in SHELL_BLOCKS if "not run" in block.notes]
    assert len(not_run) <= len(SHELL_BLOCKS) / 3, f"{len(not_run)} of {len(SHELL_BLOCKS)}: {' '.join(not_run)}"


def test_notes_have_known_keys() -> None:
    found = {key for page in pages() for block in blocks(page) for key in block.notes}
    assert found <= set(NOTES)


# Tests of the commands' arguments


def calls(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in a block."""
    for line in lines_of(block):
        for words in _simple_commands(line):
            yield from _arguments(words)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, without operators and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    words = iter(lexer)
    for word in words:
        if word in {">", ">>", "<"}:
            next(words)
        elif set(word) <= set("();|&"):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _arguments(words: list[str]) -> Iterator[list[str]]:
    """Yield the arguments of irsa-sidecar, if irsa-sidecar is the command or follows `--`."""
    while words and (words[0] in SHELL_WORDS or "=" in words[0].partition("/")[0]):
        words = words[1:]
    if words and Path(words[0]).name == PROGRAM:
        yield words[1:]
    if "--" in words:
        yield from _arguments(words[words.index("--") + 1 :])


CALLS = [(str(block), arguments) for block in SHELL_BLOCKS for arguments in calls(block)]
"""The page and line of each call, and its arguments."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """Return the parsed arguments of each command. The commands are replaced, so they have no effect."""
    found: list[argparse.Namespace] = []

    def note(args: argparse.Namespace) -> int:
        found.append(args)
        return 0

    for name in (name for name in cli.COMMANDS if name != "setup"):
        monkeypatch.setattr(import_module(f"sidecar.commands.{name}"), "main", note)
    for step in STEPS:
        monkeypatch.setattr(import_module(f"sidecar.setup.steps.{step.replace('-', '_')}"), "main", note)
    return found


@pytest.mark.parametrize(("place", "arguments"), CALLS)
def test_each_command_is_accepted_by_the_parsers(
    place: str, arguments: list[str], parsed: list[argparse.Namespace]
) -> None:
    if arguments == ["setup"] or "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main(arguments)
        return
    assert cli.main(arguments) == 0, place
    assert len(parsed) == (arguments not in ([], ["help"]))


def test_every_step_of_setup_is_in_a_page() -> None:
    called = {arguments[1] for _, arguments in CALLS if arguments[0] == "setup" and arguments[1:]}
    assert set(STEPS) <= called


# Tests of the function that reads blocks


PAGE = """# Title

## One

<!-- not run: needs a cluster -->
```sh
irsa-sidecar setup role \\
    cart | jq . >out
```

- a list
  <!-- file: a/b.yaml -->
  ```yaml
  a: 1
  ```

<!-- yaml: pod -->

```yaml
b: 2
```
"""


def test_blocks_have_their_section_and_notes() -> None:
    shell, listed, far = parse("page.md", PAGE)
    assert (shell.section, shell.notes, str(shell)) == ("One", {"not run": "needs a cluster"}, "page.md:6")
    assert (listed.text, listed.notes) == ("a: 1\n", {"file": "a/b.yaml"})
    assert far.notes == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("irsa-sidecar setup role cart | jq . >out", [["setup", "role", "cart"]]),
        (".venv/bin/irsa-sidecar token && A=b irsa-sidecar probe", [["token"], ["probe"]]),
        ("if irsa-sidecar probe; then irsa-sidecar token; fi  # irsa-sidecar run", [["probe"], ["token"]]),
        ("irsa-sidecar exec -- irsa-sidecar token", [["exec", "--", "irsa-sidecar", "token"], ["token"]]),
        ("kubectl exec -c irsa-sidecar web -- irsa-sidecar probe", [["probe"]]),
        ("helm install irsa-sidecar k8s/chart", []),
    ],
)
def test_calls_of_the_program_are_found(line: str, expected: list[list[str]]) -> None:
    (block,) = parse("page.md", f"```sh\n{line}\n```\n")
    assert list(calls(block)) == expected


def test_typed_block_is_the_input_of_the_command_above(tmp_path: Path) -> None:
    found = parse("page.md", "```sh\nsh\n```\n<!-- typed in: that shell -->\n```sh\necho $0\nexit\necho b\n```\n")
    assert run(found, tmp_path, {"PATH": "/usr/bin:/bin"}).stdout == f"--- page.md:1\nsh\n{END}\n"


@pytest.mark.parametrize(("command", "status"), [("(exit 3)", 0), ("true", 1), ("(exit 2)", 1)])
def test_block_must_exit_with_the_status_of_its_note(tmp_path: Path, command: str, status: int) -> None:
    found = parse("page.md", f"<!-- exits with: 3 -->\n```sh\n{command}\n```\n")
    assert run(found, tmp_path, {"PATH": "/usr/bin:/bin"}).returncode == status


def test_failing_block_is_reported_with_its_line(tmp_path: Path) -> None:
    found = parse("page.md", "<!-- file: a/b -->\n```yaml\nx\n```\n```sh\ncat a/b\n```\n```sh\nfalse\ntrue\n```\n")
    done = run(found, tmp_path, {"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1
    assert done.stdout == "--- page.md:5\nx\n--- page.md:8\n"
