"""
What an import would cost each Pod: resident memory and time of a fresh interpreter, median of several.

    python benchmarks/imports.py [ROUNDS]

Run it with the development environment's Python: it needs what is measured. Each row builds on what `run` imports,
with the packages left out that `run` leaves out.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator

PRELUDE = """
import gc, sys, time
from types import ModuleType
gc.disable()
started = time.perf_counter()
for name in {left_out!r}: sys.modules[name] = None
for name in {stood_in_for!r}: sys.modules[name] = ModuleType(name)
"""

REPORT = """
took = time.perf_counter() - started
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]
print(int(resident) / 1024, took * 1000)
"""

RUN = "import sidecar.daemon"
ROWS = {
    "nothing": "",
    "trio": "import trio",
    "what run imports": RUN,
    "  and a CA bundle": f"{RUN}\nimport httpx; httpx.create_ssl_context()",
    "  and YAML, for a file of roles": f"{RUN}\nimport sidecar.roles_file",
    "  and botocore's signer, for a chain": f"{RUN}\nimport sidecar.roles_file, sidecar.signature",
    "  and prometheus_client": f"{RUN}\nimport prometheus_client",
    "  and botocore's STS client": f"{RUN}\nimport botocore.session\n"
    "botocore.session.Session().create_client('sts', 'eu-west-1')",
}
WITH_EVERYTHING = "what run would import, with all that is installed"


def measure(code: str, left_out: tuple[str, ...], stood_in_for: tuple[str, ...]) -> tuple[float, float]:
    """MiB and milliseconds of one fresh interpreter."""
    program = PRELUDE.format(left_out=left_out, stood_in_for=stood_in_for) + code + REPORT
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    mebibytes, milliseconds = done.stdout.split()
    return float(mebibytes), float(milliseconds)


def rows(rounds: int) -> Iterator[tuple[str, float, float]]:
    from sidecar.commands.run import LEFT_OUT, STOOD_IN_FOR  # noqa: PLC0415  (only to name what is measured)

    subjects = [(name, code, LEFT_OUT, STOOD_IN_FOR) for name, code in ROWS.items()]
    for name, code, left_out, stood_in_for in [*subjects, (WITH_EVERYTHING, RUN, (), ())]:
        found = [measure(code, left_out, stood_in_for) for _ in range(rounds)]
        memory, time = (statistics.median(values) for values in zip(*found, strict=True))
        yield name, memory, time


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"{'after importing':52} {'RSS MiB':>8} {'ms':>8}")
    for name, memory, time in rows(rounds):
        print(f"{name:52} {memory:8.1f} {time:8.0f}")


if __name__ == "__main__":
    main()
