"""Check that docs/sdks.md is up to date."""

from tests.sdk.cases import CASES
from tests.sdk.catalogue import BY_NAME, CLIENTS, CLIENTS_FOLDER
from tests.sdk.limits import LIMITS, NUMBERS
from tests.sdk.table import DOCUMENT, written_into


def test_document_has_every_client_version_and_case() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == written_into(document), "run `make test-sdks`"
    for client in CLIENTS:
        assert f"| {client.title} | {client.version} | " in document


def test_every_client_folder_is_in_the_catalogue() -> None:
    folders = {path.name for path in CLIENTS_FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {client.folder_name for client in CLIENTS}


def test_every_limit_has_an_existing_client_and_case() -> None:
    assert len(NUMBERS) == len(LIMITS)
    assert {limit.client for limit in LIMITS} <= set(BY_NAME)
    assert {limit.case for limit in LIMITS} <= set(CASES)


def test_lock_files_contain_no_registry_address() -> None:
    """Check that lock files have only names, versions and hashes, because each machine chooses its registry."""
    locks = [client.folder / client.lock for client in CLIENTS] + [CLIENTS_FOLDER / "go" / "go.sum"]
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert '"resolved"' not in text, lock
        assert "--index-url" not in text, lock
        assert text.count("registry+https://github.com/rust-lang/crates.io-index") == text.count("registry+"), lock
