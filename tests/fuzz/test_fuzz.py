"""Run the fuzz targets on the corpus and on a few thousand mutations, which are the same in every run."""

import random

import pytest

from sidecar.config.roles_file import parse_roles
from sidecar.errors import ConfigurationError
from sidecar.local.config import parse_config
from sidecar.serving import imds
from sidecar.serving.http import Request, parse
from tests.fuzz import fuzz_http, fuzz_imds, fuzz_local_config, fuzz_roles, fuzz_sts
from tests.fuzz.seeds import DOCUMENTS, mutated, seeds

SEED = 20270115
MUTATIONS = 4000
MUTATIONS_OF_DOCUMENTS = 800
"""The number of mutated documents. The number is small, because PyYAML takes milliseconds for each document."""

TARGETS = {
    "http": fuzz_http.target,
    "imds": fuzz_imds.target,
    "sts": fuzz_sts.target,
    "roles": fuzz_roles.target,
    "local_config": fuzz_local_config.target,
}

EVERY_SEED = [(name, file) for name in TARGETS for file in seeds(name)]


@pytest.mark.parametrize(("name", "file"), EVERY_SEED, ids=["/".join(pair) for pair in EVERY_SEED])
def test_fuzz_target_accepts_every_seed(name: str, file: str) -> None:
    TARGETS[name](seeds(name)[file])


@pytest.mark.parametrize("name", TARGETS)
def test_fuzz_target_accepts_mutations_of_the_corpus(name: str) -> None:
    chance = random.Random(SEED)
    inputs = list(seeds(name).values())
    for number in range(MUTATIONS_OF_DOCUMENTS if name in DOCUMENTS else MUTATIONS):
        data = mutated(chance.choice(inputs), name, inputs, chance)
        try:
            TARGETS[name](data)
        except Exception:
            print(f"seed {SEED}, mutation {number}: {data!r}")
            raise


def test_parser_accepts_only_the_client_requests_of_the_corpus() -> None:
    taken = {file for file, data in seeds("http").items() if isinstance(parse(data), Request)}
    assert {file for file in taken if not file.startswith(("sdk-", "client-"))} == set()
    assert {file for file in seeds("http") if file.startswith("sdk-")} <= taken


def test_imds_corpus_has_an_accepted_request_with_a_session() -> None:
    taken = {file for file, data in seeds("imds").items() if isinstance(imds.parse(data), Request)}
    assert {file for file in seeds("imds") if file.startswith("sdk-")} == taken
    open_session = {file for file, data in seeds("imds").items() if fuzz_imds.OPEN_SESSION in data}
    assert "sdk-java-v1-credentials" in open_session & taken


@pytest.mark.parametrize("name", ["roles", "local_config"])
def test_document_corpus_has_accepted_and_rejected_seeds(name: str) -> None:
    """Check that some seeds are accepted, some are not, and some mutations of accepted seeds are accepted."""
    outcomes = [_is_accepted(name, data) for data in seeds(name).values()]
    assert True in outcomes
    assert False in outcomes
    chance, inputs = random.Random(SEED), list(seeds(name).values())
    mutants = [mutated(inputs[outcomes.index(True)], name, inputs, chance) for _ in range(200)]
    assert sum(_is_accepted(name, data) for data in mutants) >= 5


def _is_accepted(name: str, data: bytes) -> bool:
    try:
        parse_roles(data, "r", fuzz_roles.DEFAULTS) if name == "roles" else parse_config(data, "c")
    except ConfigurationError:
        return False
    return True
