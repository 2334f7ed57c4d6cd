"""The corpus, and a few thousand mutations of it that are the same in every run."""

import random

import pytest

from sidecar import imds
from sidecar.http import Request, parse
from tests.fuzz import fuzz_http, fuzz_imds, fuzz_sts
from tests.fuzz.seeds import mutated, seeds

SEED = 20270115
MUTATIONS = 4000

TARGETS = {"http": fuzz_http.target, "imds": fuzz_imds.target, "sts": fuzz_sts.target}

EVERY_SEED = [(name, file) for name in TARGETS for file in seeds(name)]


@pytest.mark.parametrize(("name", "file"), EVERY_SEED, ids=["/".join(pair) for pair in EVERY_SEED])
def test_a_seed_breaks_nothing(name: str, file: str) -> None:
    TARGETS[name](seeds(name)[file])


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_of_the_corpus_breaks_anything(name: str) -> None:
    chance = random.Random(SEED)
    inputs = list(seeds(name).values())
    for number in range(MUTATIONS):
        data = mutated(chance.choice(inputs), name, inputs, chance)
        try:
            TARGETS[name](data)
        except Exception:
            print(f"seed {SEED}, mutation {number}: {data!r}")
            raise


def test_the_corpus_reaches_both_sides_of_the_grammar() -> None:
    taken = {file for file, data in seeds("http").items() if isinstance(parse(data), Request)}
    assert {file for file in taken if not file.startswith(("sdk-", "client-"))} == set()
    assert {file for file in seeds("http") if file.startswith("sdk-")} <= taken


def test_the_corpus_reaches_sessions_and_secrets() -> None:
    taken = {file for file, data in seeds("imds").items() if isinstance(imds.parse(data), Request)}
    assert {file for file in seeds("imds") if file.startswith("sdk-")} == taken
    open_session = {file for file, data in seeds("imds").items() if fuzz_imds.OPEN_SESSION in data}
    assert "sdk-java-v1-credentials" in open_session & taken
