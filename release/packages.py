"""
Build the wheel and the source distribution from the files of the commit.

Hatchling sorts the files, normalizes their modes and uses SOURCE_DATE_EPOCH as their time.
"""

import sys
from pathlib import Path

from release.programs import build_with


def build_packages(files: Path, output: Path, epoch: int) -> None:
    """Write both packages into the output folder."""
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(output)]
    build_with([*hatchling, "--target", "sdist", "--target", "wheel"], files, epoch)
