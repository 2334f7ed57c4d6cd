"""
Run the unit tests of packages that differ from main: `python -m tests.support.changed [--base REF] [--list]`.

Rule: a change in a package runs the package's tests. A change of any flat module runs the tests of all flat modules.
Tests of packages that import a changed module do not run, because nearly all packages import a flat module. `make test`
runs all tests. Committed, staged, unstaged and untracked changes count.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

LAYERS = "tests/unit/test_layers.py"
"""The test of the import rules, which any change of `sidecar/` can break."""

DOCUMENTATION = (
    "tests/docs/test_links.py",
    "tests/docs/test_decisions.py",
    "tests/docs/test_index.py",
    "tests/docs/test_lists.py",
    "tests/docs/test_yaml_blocks.py",
)
"""The tests of documentation that need only the files in docs/."""


def _flat_tests() -> list[str]:
    """Return the tests of the flat modules."""
    return [str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").glob("test_*.py")]


def suites_of(path: str) -> Iterator[str]:
    """Yield the tests to run for one changed file, as paths that may not exist."""
    parts = Path(path).parts
    if parts[0] == "sidecar" or path == LAYERS:
        yield LAYERS
    match parts:
        case ["sidecar", package, _, *_] | ["tests", "unit", package, _, *_]:
            yield f"tests/unit/{package}"
        case ["sidecar", _] | ["tests", "unit", _]:
            yield from _flat_tests()
        case ["tests", "support" | "conftest.py", *_]:
            yield "tests/support"
        case ["docs" | "changelog.d", *_] | [_] if path.endswith(".md"):
            yield from DOCUMENTATION


def targets(changed: Iterable[str]) -> list[str]:
    """Return the existing tests of the changed files, without duplicates."""
    chosen = {test for path in changed for test in suites_of(path)}
    return sorted(test for test in chosen if (ROOT / test).exists())


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def changed_files(base: str) -> list[str]:
    """Return untracked files, and files that differ from the merge base with `base`. Exit if `base` does not exist."""
    try:
        (fork,) = _git("merge-base", base, "HEAD")
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"--base is {base}: git finds no common commit with it ({error.stderr.strip() or 'unrelated history'}). "
            f"Fetch the branch, or name another one: make test-fast SINCE=origin/main."
        ) from None
    return _git("diff", "--name-only", "--no-renames", fork) + _git("ls-files", "--others", "--exclude-standard")


def main() -> int:
    """Run pytest on the tests of the changed files, print the duration, and return pytest's exit status."""
    parser = argparse.ArgumentParser(description="Run the unit tests of the changed packages.")
    parser.add_argument("--base", default="main", help="branch or commit to compare with [%(default)s]")
    parser.add_argument("--list", action="store_true", help="only print the tests")
    arguments = parser.parse_args()
    chosen = targets(changed_files(arguments.base))
    print("\n".join(chosen) or f"Nothing with unit tests changed since {arguments.base}.")
    if arguments.list or not chosen:
        return 0
    began = time.monotonic()
    status = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "auto", *chosen], cwd=ROOT, check=False)
    print(f"test-fast took {time.monotonic() - began:.1f} s. `make test` runs everything.")
    return status.returncode


if __name__ == "__main__":
    sys.exit(main())
