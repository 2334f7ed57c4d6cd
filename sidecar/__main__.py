"""
Start `irsa-sidecar`. This module is the entry point of the installed command and of `python -m sidecar`.

Rule: `run` without flags, as in a Pod, listens before all other imports (serving/early_listener.py). The garbage
collector is off until the first credentials (daemon/run.py), because a collection during the imports frees nothing.
"""

import gc
import os
import sys


def main() -> int:
    """Run the command in `sys.argv`, and return its exit status."""
    if sys.argv[1:] == ["run"] and None not in (sys.stdin, sys.stdout, sys.stderr):
        gc.disable()
        from sidecar.serving.early_listener import open_early  # noqa: PLC0415  only `run` listens early

        open_early(os.environ)
    from sidecar.cli import main as run_command  # noqa: PLC0415  not before the daemon listens

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
