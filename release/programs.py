"""
Run the programs of a build in an environment that is the same on every machine.

Rule: a build sees the commit's time, and no locale, time zone, hash seed or umask of the caller.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

UMASK = 0o022

FIXED = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    # Podman's own image format has no HEALTHCHECK.
    "BUILDAH_FORMAT": "docker",
}


def fixed_environment(inherited: Mapping[str, str], epoch: int) -> dict[str, str]:
    """Return the caller's environment with fixed values for everything that changes the bytes of a build."""
    return {**inherited, "SOURCE_DATE_EPOCH": str(epoch), **FIXED}


def build_with(command: list[str], folder: Path, epoch: int) -> None:
    """Run a step of the build in the folder. If the step fails, exit with its output as the message."""
    environment = fixed_environment(os.environ, epoch)
    done = subprocess.run(
        command, cwd=folder, env=environment, umask=UMASK, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stdout}{done.stderr}")
