"""Check that the compatibility page lists every SDK and partition, and that the paths of the tests exist."""

import pytest

from sidecar.sts.endpoint import PARTITIONS
from tests.docs.reference.compatibility import ROOT
from tests.docs.reference.compatibility_notes import AWS, KUBERNETES, SYSTEMS, Environment
from tests.docs.reference.pages import path_of
from tests.sdk.catalogue import CLIENTS


@pytest.mark.parametrize("row", [*KUBERNETES, *AWS, *SYSTEMS], ids=lambda row: row.what)
def test_environment_has_existing_tests_or_reports_none(row: Environment) -> None:
    assert (ROOT / row.where).exists()
    assert row.where or "not " in row.how.lower() or "No " in row.how


def test_page_has_every_client_and_partition() -> None:
    text = path_of("compatibility").read_text(encoding="utf-8")
    assert [client.name for client in CLIENTS if f"| {client.title} | {client.version} |" not in text] == []
    assert [partition.name for partition in PARTITIONS if f"`{partition.name}`" not in text] == []
