"""What the tests with real containers and clusters need of the machine, and where they keep what takes long to make."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irsa-sidecar-tests"
"""Outside the work tree, and named by the content of what they are made from, so that every checkout finds them."""


def require(programs: Mapping[str, str], purpose: str) -> None:
    """End with one message that says what to install, unless all programs are there. The values are Debian packages."""
    missing = {package for program, package in programs.items() if shutil.which(program) is None}
    if missing:
        raise SystemExit(f"{purpose} needs more than this machine has: apt-get install {' '.join(sorted(missing))}")
