"""Test that a report shows the first failure, the findings and the counts."""

from sidecar.doctor.finding import Row, failed, ok, skipped, warning
from sidecar.doctor.location import Side
from sidecar.doctor.report import Report, as_json, as_text


def test_report_without_a_failure_counts_the_warnings() -> None:
    for count, words in (
        (0, "No failure found."),
        (1, "No failure found; 1 warning."),
        (2, "No failure found; 2 warnings."),
    ):
        rows = tuple(Row("token", f"check{n}", warning("odd", "fix it")) for n in range(count))
        assert as_text(Report(Side.SIDECAR, rows, {}), width=80, colours=False).startswith(words)
    report = Report(Side.SIDECAR, (Row("token", "file", skipped("no")),), {})
    text = as_text(report, width=80, colours=False)
    assert text.startswith("No failure found; 1 check could not be made (--verbose lists them).")
    assert "token.file" not in text
    listed = as_text(report, width=80, colours=False, is_verbose=True)
    assert listed.startswith("No failure found; 1 check could not be made.")
    assert "token.file" in listed


def test_report_shows_the_id_of_each_check() -> None:
    rows = (Row("token", "file", failed("it is gone", "Bring it back")), Row("sts", "name", ok("resolves")))
    text = as_text(Report(Side.SIDECAR, rows, {}), width=80, colours=False)
    assert "See: token.file in docs/reference/doctor-checks.md" in text
    assert "sts.name" in text


def test_report_colours_the_status_words_on_request() -> None:
    rows = (Row("token", "file", failed("it is gone", "Bring it back"), "default"), Row("sts", "name", skipped("no")))
    report = Report(Side.SIDECAR, rows, {})
    coloured = as_text(report, width=80, colours=True)
    assert "\x1b[1;31mFAILED\x1b[0m" in coloured
    plain = as_text(report, width=80, colours=False)
    assert "Failed (token of role default): it is gone." in plain
    assert '"role": "default"' in as_json(report)
