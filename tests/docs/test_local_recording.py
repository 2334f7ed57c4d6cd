"""Test that the recordings equal the output of `irsa-sidecar local`, and that the tutorial shows the recordings."""

import pytest

from tests.docs.local_recording import SCENES, WIDTHS, path_of, record
from tests.support.documents import blocks


@pytest.mark.parametrize("width", WIDTHS)
def test_recording_equals_a_real_run(width: int) -> None:
    """Write the recordings again with `python -m tests.docs.local_recording`."""
    assert record(width) == path_of(width).read_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_a_recording_is_too_wide(width: int) -> None:
    assert max(map(len, path_of(width).read_text().splitlines())) <= width


def test_tutorial_shows_the_recordings() -> None:
    recorded = path_of(80).read_text()
    shown = [block.text for block in blocks("docs/local.md", language="text")]
    for scene in SCENES:
        screen = recorded.partition(f"$ {' '.join(scene)}\n")[2].partition("\n\n$ ")[0]
        assert screen.strip() in {text.strip() for text in shown}
