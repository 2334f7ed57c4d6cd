"""What docs/sdks.md says of clients is what the suite holds."""

from tests.sdk.cases import CASES
from tests.sdk.catalogue import BY_NAME, CLIENTS, CLIENTS_FOLDER
from tests.sdk.limits import LIMITS, NUMBERS
from tests.sdk.table import DOCUMENT, written_into


def test_the_document_has_every_client_with_its_version_and_every_case() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == written_into(document), "run `make test-sdks`"
    for client in CLIENTS:
        assert f"| {client.title} | {client.version} | " in document


def test_every_folder_of_a_client_is_in_the_catalogue() -> None:
    folders = {path.name for path in CLIENTS_FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {client.folder_name for client in CLIENTS}


def test_every_limit_is_that_of_one_client_in_one_case() -> None:
    assert len(NUMBERS) == len(LIMITS)
    assert {limit.client for limit in LIMITS} <= set(BY_NAME)
    assert {limit.case for limit in LIMITS} <= set(CASES)


def test_no_lock_file_names_a_registry() -> None:
    """What is installed is told by name, version and hash; where from is the business of each machine."""
    locks = [client.folder / client.lock for client in CLIENTS] + [CLIENTS_FOLDER / "go" / "go.sum"]
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert '"resolved"' not in text, lock
        assert "--index-url" not in text, lock
        assert text.count("registry+https://github.com/rust-lang/crates.io-index") == text.count("registry+"), lock
