"""
Measure the cost of an import for each Pod: resident memory, modules and time of a new interpreter, as medians.

    python benchmarks/imports.py [--rounds 9] [--parts]

Run this script with the development environment's Python, which has the measured packages. The second half of the table
starts from the imports of `run`. `--parts` shows the cost of each part that `run` stubs or imports lazily.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.arguments import at_least
from benchmarks.measure import on_linux
from sidecar.startup.lean_imports import BLOCKED, LAZY, STUBBED, Part

PRELUDE = """
import gc, sys, time
gc.disable()
started = time.perf_counter()
"""

REPORT = """
took = time.perf_counter() - started
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
kibibytes = [int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon")]
print(*kibibytes, sum(module is not None for module in sys.modules.values()), took * 1000)
"""

WITHOUT = """
from sidecar.startup import lean_imports
from sidecar.startup.lean_imports import Part
lean_imports.BLOCKED, lean_imports.STUBBED, lean_imports.LAZY = {parts!r}
with lean_imports.lean_imports():
    import sidecar.daemon.run
"""

RUN = WITHOUT.format(parts=(BLOCKED, STUBBED, LAZY))
CLIENT = "\nfrom sidecar.sts.client import StsClient; client = StsClient('https://sts.eu-west-1.amazonaws.com/')\n"
ROWS = {
    "nothing": "",
    "trio": "import trio",
    "trio, httpx, structlog, jwt": "import trio, httpx, structlog, jwt",
    "imports of run without stubs": "import sidecar.daemon.run",
    "imports of run": RUN,
    "  and its STS client, with the trusted authorities": RUN + CLIENT,
    "  and with the image's file for each authority": RUN + "import sys; sys.path.insert(0, {image!r})" + CLIENT,
    "  and YAML, for a roles file": RUN + "import sidecar.config.roles_file",
    "  and botocore's signer, for a chain": RUN + "import sidecar.config.roles_file, sidecar.sts.signing",
    "  and argparse, for flags": RUN + "import argparse; argparse.ArgumentParser()",
    "  and prometheus_client": RUN + "import prometheus_client",
    "  and botocore's STS client": RUN + "import botocore.session\n"
    "botocore.session.Session().create_client('sts', 'eu-west-1')",
}


class Cost(NamedTuple):
    """The memory, modules and time of one new interpreter."""

    resident_mib: float
    anonymous_mib: float
    modules: float
    milliseconds: float


def measure(code: str, rounds: int) -> Cost:
    """Run `code` in several new interpreters, and return the medians of their costs."""
    found = []
    for _ in range(rounds):
        program = [sys.executable, "-c", PRELUDE + code + REPORT]
        resident, anonymous, modules, took = subprocess.run(
            program, capture_output=True, text=True, check=True
        ).stdout.split()
        found.append((float(resident) / 1024, float(anonymous) / 1024, float(modules), float(took)))
    return Cost(*(statistics.median(values) for values in zip(*found, strict=True)))


def parts(rounds: int) -> Iterator[tuple[Part, float, float]]:
    """Yield each part that `run` stubs or imports lazily, with the anonymous MiB and the modules that it would add."""
    least = measure(RUN, rounds)
    for part in (*STUBBED, *LAZY):
        stubbed, lazy = (tuple(other for other in all_parts if other != part) for all_parts in (STUBBED, LAZY))
        cost = measure(WITHOUT.format(parts=(BLOCKED, stubbed, lazy)), rounds)
        yield part, cost.anonymous_mib - least.anonymous_mib, cost.modules - least.modules


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of imports.")
    parser.add_argument("--rounds", type=at_least(1), default=9, help="interpreters for each row [9]")
    parser.add_argument("--parts", action="store_true", help="measure each part that `run` leaves out")
    args = parser.parse_args()
    if args.parts:
        print(f"{'left in':84} {'MiB':>8} {'listed':>8} {'modules':>8}")
        for part, mebibytes, modules in parts(args.rounds):
            print(f"{', '.join(part.modules):84} {mebibytes:+8.2f} {part.mebibytes:+8.2f} {modules:+8.0f}")
        return
    print(f"{'after importing':54} {'RSS MiB':>8} {'anon MiB':>8} {'modules':>8} {'ms':>6}")
    with tempfile.TemporaryDirectory(prefix="imports-") as image:
        # The folder may be empty, because OpenSSL reads no file before a handshake.
        Path(image, "certifi", "cacert.d").mkdir(parents=True)
        Path(image, "certifi", "__init__.py").touch()
        for name, code in ROWS.items():
            cost = measure(code.replace("{image!r}", repr(image)), args.rounds)
            memory = f"{cost.resident_mib:8.1f} {cost.anonymous_mib:8.1f}"
            print(f"{name:54} {memory} {cost.modules:8.0f} {cost.milliseconds:6.0f}")


if __name__ == "__main__":
    sys.exit(on_linux(main))
