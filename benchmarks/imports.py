"""
What an import costs each Pod: resident memory, modules and time of a fresh interpreter, median of several.

    python benchmarks/imports.py [--rounds 9] [--parts]

Run it with the development environment's Python: it needs what is measured. The second half builds on what `run`
imports. `--parts` tells of each part that `run` leaves out what it would cost to leave it in.
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
from sidecar.startup.lean_imports import LATER, NOT_THERE, STOOD_IN_FOR

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
from sidecar.startup import lean_imports as left_out
left_out.NOT_THERE, left_out.STOOD_IN_FOR, left_out.LATER = {left_out!r}
with left_out.left_out():
    import sidecar.daemon.run
"""

RUN = WITHOUT.format(left_out=(NOT_THERE, STOOD_IN_FOR, LATER))
CLIENT = "\nfrom sidecar.sts.client import StsClient; client = StsClient('https://sts.eu-west-1.amazonaws.com/')\n"
ROWS = {
    "nothing": "",
    "trio": "import trio",
    "trio, httpx, structlog, jwt": "import trio, httpx, structlog, jwt",
    "what run would import, with all that is installed": "import sidecar.daemon.run",
    "what run imports": RUN,
    "  and its client of STS, with the authorities to trust": RUN + CLIENT,
    "  and as the image has them, a file for each": RUN + "import sys; sys.path.insert(0, {image!r})" + CLIENT,
    "  and YAML, for a file of roles": RUN + "import sidecar.config.roles_file",
    "  and botocore's signer, for a chain": RUN + "import sidecar.config.roles_file, sidecar.sts.signing",
    "  and argparse, for flags": RUN + "import argparse; argparse.ArgumentParser()",
    "  and prometheus_client": RUN + "import prometheus_client",
    "  and botocore's STS client": RUN + "import botocore.session\n"
    "botocore.session.Session().create_client('sts', 'eu-west-1')",
}


GROUPED = {"urllib": "http", "pathlib": "trio"}
"""Parts are measured by package, as those of one need each other. These packages need each other too."""


class Cost(NamedTuple):
    """Of one fresh interpreter."""

    resident_mib: float
    anonymous_mib: float
    modules: float
    milliseconds: float


def measure(code: str, rounds: int) -> Cost:
    """Medians of several interpreters, each of which runs `code`."""
    found = []
    for _ in range(rounds):
        program = [sys.executable, "-c", PRELUDE + code + REPORT]
        resident, anonymous, modules, took = subprocess.run(
            program, capture_output=True, text=True, check=True
        ).stdout.split()
        found.append((float(resident) / 1024, float(anonymous) / 1024, float(modules), float(took)))
    return Cost(*(statistics.median(values) for values in zip(*found, strict=True)))


def parts(rounds: int) -> Iterator[tuple[str, float, float]]:
    """Each part that is left out, with the anonymous MiB and the modules that it would bring."""
    groups: dict[str, list[str]] = {}
    for name in [*STOOD_IN_FOR, *LATER]:
        root = name.partition(".")[0]
        groups.setdefault(GROUPED.get(root, root), []).append(name)
    least = measure(RUN, rounds)
    for group in groups.values():
        kept = tuple(tuple(name for name in names if name not in group) for names in (NOT_THERE, STOOD_IN_FOR, LATER))
        cost = measure(WITHOUT.format(left_out=kept), rounds)
        yield ", ".join(group), cost.anonymous_mib - least.anonymous_mib, cost.modules - least.modules


def main() -> None:
    parser = argparse.ArgumentParser(description="What imports cost.")
    parser.add_argument("--rounds", type=at_least(1), default=9, help="interpreters for each row [9]")
    parser.add_argument("--parts", action="store_true", help="what each part that is left out would cost")
    args = parser.parse_args()
    if args.parts:
        print(f"{'left in':108} {'MiB':>8} {'modules':>8}")
        for name, mebibytes, modules in parts(args.rounds):
            print(f"{name:108} {mebibytes:+8.2f} {modules:+8.0f}")
        return
    print(f"{'after importing':54} {'RSS MiB':>8} {'anon MiB':>8} {'modules':>8} {'ms':>6}")
    with tempfile.TemporaryDirectory(prefix="imports-") as image:
        Path(image, "certifi", "cacert.d").mkdir(parents=True)  # of which nothing is read before a handshake
        Path(image, "certifi", "__init__.py").touch()
        for name, code in ROWS.items():
            cost = measure(code.replace("{image!r}", repr(image)), args.rounds)
            memory = f"{cost.resident_mib:8.1f} {cost.anonymous_mib:8.1f}"
            print(f"{name:54} {memory} {cost.modules:8.0f} {cost.milliseconds:6.0f}")


if __name__ == "__main__":
    sys.exit(on_linux(main))
