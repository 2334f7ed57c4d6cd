import pytest

from tests.docs.chart import CHART, generated


@pytest.mark.parametrize("path", generated())
def test_generated_file_of_the_chart_is_current(path: str) -> None:
    assert (CHART / path).read_text(encoding="utf-8") == generated()[path], "Run `make chart`."
