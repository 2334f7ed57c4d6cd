"""Test the benchmarks: the pages and plots of a run, missing programs, and wrong arguments."""

import argparse
import shutil
from pathlib import Path

import pytest

from benchmarks import fleet, measure, parsers, plot_fleet, report, subjects, tables
from benchmarks.arguments import at_least, interpreter
from benchmarks.builds import MissingError
from benchmarks.plot_growth import Slope
from benchmarks.report import Run
from benchmarks.subjects import Subject
from benchmarks.tables import Table

RUSH = Table(
    "GET on new connections",
    {
        "run": {"c=32 req/s": [30_000.0, 33_000.0, 31_000.0], "c=256 p99 ms": [9.0]},
        "aws-vault": {"c=32 req/s": [20_000.0], "c=256 p99 ms": [12.0]},
        "ec2-metadata-mock": {"c=32 req/s": [25_000.0], "c=256 p99 ms": [20.0]},
    },
    {"run": ["aws-vault"]},
)


def page(found: dict[str, Table], left_out: tuple[str, ...] = ()) -> str:
    run = Run("make bench", "2 x a processor", "wrk", {"run": "the daemon"}, left_out, found)
    return report.page(run)


def test_cell_shows_the_median_and_the_spread() -> None:
    assert "| run | 31,000 (30,000-33,000) | 9 |" in tables.markdown(RUSH)
    assert "| run / aws-vault | 1.55 | 0.75 |" in tables.markdown(RUSH)


def test_best_peer_is_the_peer_with_our_worst_ratio() -> None:
    text = page({"rush": RUSH})
    assert "| requests per second, 32 clients | 1.24 | ec2-metadata-mock (Go) | ≥ 1.35 | not met | |" in text.replace(
        "  ", " "
    )
    assert "| p99 latency, 256 clients | 0.75 | aws-vault (Go) | ≤ 0.55 | not met | |" in text.replace("  ", " ")


def test_goal_shows_our_figure_and_the_last_page() -> None:
    start = Table(
        "Start", {"run": {"listening ms": [19.0], "credentials ms": [60.0]}, "boto3": {"credentials ms": [100.0]}}, {}
    )
    before = report.goal_values({"start": start})
    text = report.page(Run("make bench", "a machine", "wrk", {}, (), {"start": start}, before))
    assert "| listens after, ms | 19.00 | | ≤ 20 | met | 19.00 |" in text.replace("  ", " ")
    assert "| has credentials after | 0.60 | boto3, no sidecar | ≤ 0.65 | met | 0.60 |" in text


def test_last_values_come_from_the_stored_run(tmp_path: Path) -> None:
    assert report.last_values(tmp_path) == {}
    (tmp_path / "plots").mkdir()
    run = Run("make bench", "a machine", "wrk", {}, (), {"rush": RUSH})
    (tmp_path / "plots" / report.DATA).write_text(report.as_json(run), encoding="utf-8")
    assert report.last_values(tmp_path) == report.goal_values({"rush": RUSH}) != {}


def test_missing_measurement_is_reported() -> None:
    text = page({"rush": RUSH}, ("nginx: nginx is not on this machine's PATH",))
    assert "- Left out: nginx: nginx is not on this machine's PATH" in text
    assert "| p50 latency, 200 requests per second | not measured | | | | |" in text


def test_stored_run_gives_the_same_page() -> None:
    run = Run("make bench", "2 x a processor", "wrk", {"run": "the daemon"}, ("nginx: missing",), {"rush": RUSH})
    assert report.page(report.from_json(report.as_json(run))) == report.page(run)


def test_stored_fleet_keeps_every_peak() -> None:
    """Check that each point shows the maximum of the windows that it covers."""
    scenario = fleet.scenarios(1000, fleet.QUOTA)["outage"]
    counts = fleet.simulate(scenario, 1000, seed=1)
    shown = plot_fleet.series(counts, fleet.WINDOW_SECONDS, scenario.quota, 1000)
    assert len(shown["calls"]) <= plot_fleet.MAX_POINTS < counts.windows
    assert max(most for _, _, most in shown["calls"]) == max(counts.requested) / fleet.WINDOW_SECONDS
    assert max(shown["without"]) == shown["most_without"] == max(counts.pods_without()) > 0


def test_title_of_a_fleet_counts_pods_without_credentials() -> None:
    shown = {"event": "STS down", "pods": 1000, "most_without": 0, "start": {"without": [0]}}
    assert plot_fleet.title(shown) == "STS down: 0 of 1,000 Pods without credentials"
    assert plot_fleet.title(shown | {"most_without": 20}) == "STS down: at most 20 of 1,000 Pods without credentials"


def test_ratio_is_shown_only_if_both_sides_are_measured() -> None:
    assert tables.ratio(RUSH, "run", "aws-vault", "c=256 p99 ms") == 0.75
    assert tables.ratio(RUSH, "run", "nginx", "c=256 p99 ms") is None
    assert tables.ratio(RUSH, "run", "aws-vault", "p50 us") is None


def test_slope_is_the_cost_of_one_more_unit() -> None:
    straight = Slope.of({1: 110.0, 5: 150.0, 20: 300.0})
    assert (straight.none, straight.each, straight.fit) == pytest.approx((100, 10, 1))
    assert Slope.of({0: 0.0, 1: 0.0, 2: 10.0, 3: 100.0}).fit < 0.9
    assert Slope.of({0: 5.0, 1: 5.0}) == (0, 5, 1)


def test_missing_program_ends_the_benchmark_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> None:
        raise MissingError("`pip wheel` failed: no network")

    with pytest.raises(SystemExit, match="`pip wheel` failed: no network"):
        measure.on_linux(lacking)
    monkeypatch.setattr(measure, "PROC", "/nonexistent")
    with pytest.raises(SystemExit, match="run it on Linux"):
        measure.on_linux(lacking)


def test_small_fleet_has_goals_in_every_scenario() -> None:
    for pods in (1, 10):
        for name, scenario in fleet.scenarios(pods, fleet.QUOTA).items():
            counts = fleet.simulate(scenario, pods, seed=1)
            assert fleet.goals(name, scenario, counts)
            assert sum(counts.granted) > 0


def test_error_shows_a_number_below_the_minimum(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=at_least(1))
    assert parser.parse_args(["--pods=1"]).pods == 1
    for text, words in (("0", "0 is not 1 or more"), ("many", "invalid number value: 'many'")):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--pods={text}"])
        assert f"--pods: {words}" in capsys.readouterr().err


def test_error_shows_a_number_above_the_maximum(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--roles", type=at_least(1, 50))
    assert parser.parse_args(["--roles=50"]).roles == 50
    with pytest.raises(SystemExit):
        parser.parse_args(["--roles=51"])
    assert "--roles: 51 is not 1 to 50" in capsys.readouterr().err


def test_missing_interpreter_is_reported_before_a_build(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", type=interpreter)
    assert parser.parse_args(["--python=sh"]).python == shutil.which("sh")
    with pytest.raises(SystemExit):
        parser.parse_args(["--python=/none"])
    assert "--python: '/none' is not a program. Give the path of a Python" in capsys.readouterr().err


def test_parser_benchmark_parses_the_head_each_time() -> None:
    """Check that no cache replaces the parser. A cache would also store `Authorization` headers."""
    read = parsers.parsers()["sidecar.serving.http"]
    head = parsers.REQUESTS["botocore"]
    assert read(head) == read(head)
    assert read(head) is not read(head)


def test_peer_that_does_not_start_is_left_out() -> None:
    with pytest.raises(MissingError, match=r"does not serve here: .*false.* ended with 1"):
        subjects.try_out(Subject("peer", "one that ends at once", ("false",), {}), "http://127.0.0.1:1")
