"""
Build the Go programs of all test suites, in the order in which CI needs them, and print the time of each build.

    python3 -m tests.support.programs

CI runs this module in the background, in parallel with the unit tests. A suite that needs a program waits until the
program is built. The build caches each program under the hash of its sources (release/go_programs.py), so a second run
takes no time.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from release.go_programs import (
    ACTIONLINT,
    COSIGN,
    CRANE,
    HELM_3,
    HELM_4,
    KREW,
    SYFT,
    VALIDATE_KREW_MANIFEST,
    GoProgram,
    built,
)
from tests.cluster import binaries
from tests.policies.tools import GATOR, KYVERNO


class Build(NamedTuple):
    """A program's name, and the function that builds it unless the cache has it."""

    name: str
    run: Callable[[], Path]


def builds() -> Iterator[Build]:
    for program in (ACTIONLINT, HELM_3, HELM_4):
        yield _build(program)
    for minor in reversed(binaries.MINORS):
        yield Build(f"Kubernetes {binaries.kubernetes_version(minor)}", lambda minor=minor: binaries.kubelab(minor))  # type: ignore[misc]
    for program in (COSIGN, CRANE, SYFT, KREW, VALIDATE_KREW_MANIFEST):
        yield _build(program)
    yield Build("cert-manager", binaries.cert_manager)
    yield Build("the controller for network policies", binaries.policies)
    yield Build("pause", binaries.pause)
    for program in (GATOR, KYVERNO):
        yield _build(program)


def _build(program: GoProgram) -> Build:
    return Build(program.name, lambda: built(program))


def main() -> None:
    for build in builds():
        started_at = time.monotonic()
        build.run()
        sys.stdout.write(f"{build.name}: {time.monotonic() - started_at:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
