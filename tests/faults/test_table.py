"""Check that the table of faults in docs/reliability.md is up to date."""

from tests.faults.table import DOCUMENT, HERE, SECTIONS, faults, written_into


def test_document_has_every_fault_and_its_expected_behaviour() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == written_into(document), "run `python -m tests.faults.table`"
    assert "| A client is slow or silent before or during its headers. | The client gets a 408" in document


def test_document_has_every_file_of_faults() -> None:
    assert {path.name for path in HERE.glob("test_*_faults.py")} == set(SECTIONS)
    assert sum(len(list(faults(HERE / name))) for name in SECTIONS) >= 51
