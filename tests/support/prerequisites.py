"""Check the programs that tests with real containers and clusters need."""

import shutil
from collections.abc import Mapping


def require(programs: Mapping[str, str], purpose: str) -> None:
    """
    Exit with one message that names the packages to install, unless all programs exist.

    The values are Debian packages.
    """
    missing = {package for program, package in programs.items() if shutil.which(program) is None}
    if missing:
        raise SystemExit(f"{purpose} needs more than this machine has: apt-get install {' '.join(sorted(missing))}")
