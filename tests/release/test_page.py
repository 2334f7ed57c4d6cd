"""Run the commands of docs/verify.md on the release."""

import os
import subprocess
from pathlib import Path

from release.check import Release
from release.go_programs import COSIGN, HELM_4, built
from tests.release.conftest import KEYS
from tests.support.documents import blocks

PAGE = "docs/verify.md"
"""The page whose commands this test runs. The `run by` notes above these commands name this file."""


def test_commands_of_the_page_accept_the_release(copied: Release, tmp_path: Path) -> None:
    (copied.folder.parent / ".release-keys").symlink_to(KEYS)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, program in (("cosign", COSIGN), ("helm", HELM_4)):
        (programs / name).symlink_to(built(program))
    script = "\n".join(["set -e", *(block.text for block in blocks(PAGE) if "run by" in block.notes)])
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=copied.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "gitCommit" in done.stdout
    assert done.stderr.count("Verified OK") == 2
