"""Check the programs that tests with real containers and clusters need."""

import shutil
from collections.abc import Mapping


def require(programs: Mapping[str, str], purpose: str) -> None:
    """
    Exit with a message if a program is missing. The message lists the packages to install.

    The keys are programs, and the values are Debian packages.
    """
    missing = {package for program, package in programs.items() if shutil.which(program) is None}
    if missing:
        raise SystemExit(
            f"{purpose} needs programs that this machine lacks: apt-get install {' '.join(sorted(missing))}"
        )
