"""
Check the workflows with actionlint: `python -m release.workflows`.

Actionlint is built from its Go module. On a machine without Go, the check is skipped with a message, because CI has Go.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from release.go_programs import ACTIONLINT, built


def main() -> None:
    if shutil.which("go") is None:
        sys.stderr.write("release: warning: actionlint was not run, because it is built with Go. Install Go 1.26.\n")
        return
    workflows = sorted(Path(".github/workflows").glob("*.yml"))
    raise SystemExit(subprocess.run([built(ACTIONLINT), *workflows], check=False).returncode)


if __name__ == "__main__":
    main()
