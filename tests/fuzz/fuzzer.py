"""
Run one fuzz target for a long time: guided by coverage if atheris is installed, otherwise by mutation of the corpus.

    python -m tests.fuzz.fuzzer http|imds|sts|roles|local_config SECONDS [SEED]

An input that fails is written to `.fuzz/NAME-crash-…`. Atheris writes inputs that run new code to `.fuzz/NAME/`, and
starts its next run with these inputs. When you fix a failure, move its input into the corpus. CI sets a fixed seed.
Otherwise the seed is random, and the run prints it.
"""

import random
import sys
import time
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path

from tests.fuzz.seeds import CORPUS, mutated, seeds

KEPT = Path(".fuzz")
MAX_INPUT_BYTES = 20_000
"""The maximum size of an input, which is above the size limit of a request's head."""


def main(name: str, seconds: int, seed: int) -> None:
    (KEPT / name).mkdir(parents=True, exist_ok=True)
    fuzz = _by_coverage if util.find_spec("atheris") else _by_mutation
    fuzz(name, seconds, seed)


def _by_coverage(name: str, seconds: int, seed: int) -> None:
    """Run libFuzzer, which exits the process at the end."""
    import atheris  # noqa: PLC0415  installed only where atheris has a wheel

    with atheris.instrument_imports(include=["sidecar"]):
        target = _target(name)
    limits = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}"]
    failures = f"-artifact_prefix={KEPT}/{name}-"
    atheris.Setup([sys.argv[0], *limits, failures, str(KEPT / name), str(CORPUS / name)], target)
    atheris.Fuzz()


def _by_mutation(name: str, seconds: int, seed: int) -> None:
    target = _target(name)
    inputs = list(seeds(name).values())
    chance = random.Random(seed)
    print(f"{name}: atheris is not installed, so the run mutates the corpus with seed {seed}", flush=True)
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        data = mutated(chance.choice(inputs), name, inputs, chance)
        count += 1
        try:
            target(data)
        except Exception:
            (KEPT / f"{name}-crash-{count}").write_bytes(data)
            raise
    print(f"{name}: {count} inputs, no failure")


def _target(name: str) -> Callable[[bytes], None]:
    target: Callable[[bytes], None] = import_module(f"tests.fuzz.fuzz_{name}").target
    return target


if __name__ == "__main__":
    given_seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().getrandbits(31) + 1
    main(sys.argv[1], int(sys.argv[2]), given_seed)
