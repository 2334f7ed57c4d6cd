"""
Record the terminal output of `irsa-sidecar local` in docs/recordings/local-80.txt and local-120.txt.

Rule: each scene is a real run on a pseudo-terminal. Only values that differ in each run are replaced: times, ports,
keys and delays. `python -m tests.docs.local_recording` writes the files.
"""

import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path

from tests.support.documents import ROOT, Block, blocks

WIDTHS = (80, 120)
BIN = Path(sys.executable).parent

SCENES = (
    ("irsa-sidecar", "local", "--", "aws", "sts", "get-caller-identity"),
    ("irsa-sidecar", "local", "--config", "trust.yaml", "--", "true"),
)

_STEADY = (
    (r"until \d\d:\d\d:\d\d", "until 13:00:00"),
    (r"(?<=expires at )\d\d:\d\d:\d\d", "12:10:00"),
    (r"(?<=refreshes at )\d\d:\d\d:\d\d", "12:30:00"),
    (r"^(\w+ +)\d\d:\d\d:\d\d", r"\g<1>12:00:00"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:40000"),
    (r"(?<=:40000/)[\w-]{32}/", f"{'0' * 32}/"),
    (r"irsa-sidecar-\w{8}/", "irsa-sidecar-00000000/"),
    (r"ASIA[A-Z2-7]{16}", "ASIAIOSFODNN7EXAMPLE"),
    (r"key \S{12}…", "key NTcxZDY4YTIw…"),
    (r"retries in [\d.]+ s", "retries in 5.0 s"),
)
"""Patterns for values that differ in each run, and their replacements. The access key is from AWS's documentation."""


def path_of(width: int) -> Path:
    return ROOT / "docs" / "recordings" / f"local-{width}.txt"


def record(width: int) -> str:
    """Return all scenes on a terminal of this width, with steady values."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "trust.yaml").write_text(trust_policy().text)
        return "\n".join(f"$ {' '.join(scene)}\n{_steady(_screen(scene, width, directory))}" for scene in SCENES)


def trust_policy() -> Block:
    """Return the configuration file of the tutorial, whose trust policy rejects the token."""
    return next(block for block in blocks("docs/local.md") if block.notes.get("file") == "trust.yaml")


def _screen(command: tuple[str, ...], width: int, directory: str) -> str:
    """Run the command on a pseudo-terminal, and return its output."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        os.chdir(directory)
        os.execvpe(command[0], command, _environment())
    try:
        data = b""
        while part := _read(screen):
            data += part
    finally:
        os.close(screen)
        os.waitpid(pid, 0)
    return data.decode().replace("\r\n", "\n")


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:  # EIO: no process has the terminal any more
        return b""


def _environment() -> Mapping[str, str]:
    """Return the environment of a person at a plain terminal, with the time zone UTC."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": "/nowhere", "TERM": "xterm", "NO_COLOR": "1", "LANG": "C.UTF-8", "TZ": "UTC"}


def _steady(text: str) -> str:
    for pattern, replacement in _STEADY:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def main() -> None:
    for width in WIDTHS:
        path_of(width).parent.mkdir(exist_ok=True)
        path_of(width).write_text(record(width))


if __name__ == "__main__":
    main()
