"""
Complete command lines in real shells.

bash and zsh run in a pseudo-terminal. A key inserts all completions, and another key writes the whole line into a FIFO.
So no test parses a screen or waits for a time. fish prints the completions of a line with `complete -C`.
"""

import os
import pty
import re
import selectors
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

INSERT, REPORT = b"\x14", b"\x18\x10"
"""The keys Ctrl-T, which inserts all completions, and Ctrl-X Ctrl-P, which reports and empties the line."""

REQUIRED = frozenset(os.environ.get("REQUIRED_PROGRAMS", "").split())
"""The programs that this machine must have. CI sets them, so that no test is skipped there."""

_BASHRC = r"""
PS1=
{preparation}
bind 'set bell-style none'
bind '"\C-t": insert-completions'
bind -x '"\C-x\C-p": printf "%s\n" "$READLINE_LINE" >{report}; READLINE_LINE='
"""

_ZSHRC = r"""
PS1=
autoload -Uz compinit
compinit -u -D
{preparation}
insert-all() {{ _main_complete; compstate[insert]=all; compstate[list]= }}
zle -C insert-all complete-word insert-all
report() {{ print -r -- "$BUFFER" >{report}; BUFFER= }}
zle -N report
bindkey '^T' insert-all
bindkey '^X^P' report
"""


class Shell(Protocol):
    """A shell that completes command lines."""

    def completions(self, line: str) -> list[str]:
        """Return the completions of the last word of the line, without quotes, in alphabetical order."""
        ...


def find(program: str) -> str:
    """Return the path of a program. Skip the test if the machine lacks the program, unless it is required."""
    path = shutil.which(program)
    if path is None:
        assert program not in REQUIRED, f"{program} is required"
        pytest.skip(f"{program} is not installed")
    return path


@contextmanager
def shell(name: str, preparation: str, directory: Path, path: str) -> Iterator[Shell]:
    """Start the shell in the directory, with the preparation in its start file, and this PATH."""
    environ = {"PATH": path, "HOME": str(directory.parent), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    if name == "fish":
        yield Fish(find(name), preparation, directory, environ)
        return
    with _terminal(find(name), preparation, directory, environ) as terminal:
        yield terminal


class Fish:
    """fish, which needs no terminal."""

    def __init__(self, program: str, preparation: str, directory: Path, environ: Mapping[str, str]) -> None:
        self._start = [program, "--no-config", "--private", "-c", f"{preparation}\ncomplete -C $argv[1]"]
        self._directory = directory
        self._environ = environ

    def completions(self, line: str) -> list[str]:
        done = subprocess.run(
            [*self._start, line], cwd=self._directory, env=self._environ, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return sorted(_bare(" ".join(shlex.split(each.partition("\t")[0]))) for each in done.stdout.splitlines())


class Terminal:
    """bash or zsh in a pseudo-terminal. `report` is the FIFO that receives the line."""

    def __init__(self, screen: int, report: int) -> None:
        self._screen = screen
        self._report = report

    def completions(self, line: str) -> list[str]:
        os.write(self._screen, line.encode() + INSERT + REPORT)
        *typed, _ = shlex.split(f"{line}.")  # the last word may be empty
        words = shlex.split(self._next_report())
        assert words[: len(typed)] == typed
        return sorted(map(_bare, words[len(typed) :]))

    def _next_report(self) -> str:
        """Return the next line in the FIFO. Read the screen too, because a full screen would block the shell."""
        text = b""
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._screen, self._report):
                selector.register(descriptor, selectors.EVENT_READ)
            while not text.endswith(b"\n"):
                for key, _ in selector.select():
                    found = os.read(key.fd, 65536)
                    text += found if key.fd == self._report else b""
        return text.decode()


@contextmanager
def _terminal(program: str, preparation: str, directory: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    report = directory.parent / "report"
    os.mkfifo(report)
    screen, terminal = pty.openpty()
    start = _start(program, preparation, directory.parent, report)
    process = subprocess.Popen(
        start,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=directory,
        env={**environ, "ZDOTDIR": str(directory.parent)},
        start_new_session=True,
    )
    os.close(terminal)
    reader = os.open(report, os.O_RDWR)
    try:
        yield Terminal(screen, reader)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
        os.close(reader)


def _start(program: str, preparation: str, home: Path, report: Path) -> list[str]:
    """Write the start file, and return the command of the shell."""
    if Path(program).name == "bash":
        (home / ".bashrc").write_text(_BASHRC.format(preparation=preparation, report=report))
        return [program, "--noprofile", "--rcfile", str(home / ".bashrc"), "-i"]
    (home / ".zshrc").write_text(_ZSHRC.format(preparation=preparation, report=report))
    return [program, "--no-global-rcs", "-i"]


def _bare(word: str) -> str:
    """Return a completion without what only some shells add: `--flag=` before a value, and `=` or `/` at the end."""
    return re.sub(r"^--[a-z-]+=(?=.)", "", word).rstrip("=/")
