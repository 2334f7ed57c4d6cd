"""
Let this machine run programs of another architecture with qemu, to build images for that architecture.

Linux starts an interpreter for files whose first bytes match a rule in /proc/sys/fs/binfmt_misc. Debian's
qemu-user-static has the rules, and systemd registers them. On a machine without systemd, this module registers them,
which needs root.
"""

import subprocess
from pathlib import Path

from release.images import NATIVE
from tests.support.prerequisites import require

BINFMT = Path("/proc/sys/fs/binfmt_misc")

RULES = {"arm64": Path("/usr/lib/binfmt.d/qemu-aarch64.conf")}
"""The file with the rule of each architecture, in Debian's package."""


def emulate(architecture: str) -> None:
    """Register the architecture, unless this machine can already run programs of this architecture."""
    if architecture == NATIVE:
        return
    require({"arch-test": "arch-test"}, f"A base image for {architecture}")
    if subprocess.run(["arch-test", architecture], capture_output=True, check=False).returncode == 0:
        return
    require({f"qemu-{RULES[architecture].stem.removeprefix('qemu-')}-static": "qemu-user-static"}, "Emulation")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    rules = RULES[architecture].read_text().splitlines()
    (BINFMT / "register").write_text(next(rule for rule in rules if rule.startswith(":")))
