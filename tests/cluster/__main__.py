"""
Start and stop a real Kubernetes cluster on this machine, and run commands in it. Tests use a running cluster.

    python -m tests.cluster up [control|full]
    python -m tests.cluster kubectl get pods --all-namespaces
    python -m tests.cluster run -- curl -sk https://10.96.0.1/version
    python -m tests.cluster load ARCHIVE
    python -m tests.cluster down
"""

import os
import sys
from pathlib import Path

from tests.cluster import cluster
from tests.cluster.cluster import Cluster


def main(arguments: list[str]) -> int:
    match arguments:
        case ["up"]:
            cluster.up("full")
        case ["up", "control" | "full" as mode]:
            cluster.up(mode)
        case ["down"]:
            cluster.down()
        case ["load", archive]:
            _running().load_image(Path(archive))
        case ["kubectl", *rest]:
            running = _running()
            _become([*running.inside(), *running.kubectl_command(), *rest])
        case ["run", "--", *command] if command:
            _become([*_running().inside(), *command])
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


def _running() -> Cluster:
    found = cluster.find()
    if found is None:
        raise SystemExit("No cluster is running. Run python -m tests.cluster up.")
    return found


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TimeoutError as late:
        sys.exit(str(late))
