"""Compare the exposition with prometheus-client: with its parser, and with its output for the same values."""

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import (
    MAX_OUTCOMES,
    STS_SECONDS_BUCKETS,
    Family,
    Histogram,
    Metrics,
    Sample,
    exposition,
    histogram_family,
)

BOUNDS = (0.025, 0.5, 1.0, 10.0)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LABEL = st.text(st.characters(exclude_categories=["Cs"]))


def parsed(text: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(text.decode()))


def samples_of(metrics: Iterable[Metric]) -> dict[str, object]:
    """Return the samples without prometheus-client's `_created` times, which we do not export."""
    return {
        metric.name: (
            metric.type,
            metric.documentation,
            {(s.name, *sorted(s.labels.items())): s.value for s in metric.samples},
        )
        for metric in metrics
        if not metric.name.endswith("_created")
    }


# Comparison with prometheus-client


@given(st.lists(st.floats(0, 100)))
def test_histogram_is_parsed_by_prometheus_client(observations: list[float]) -> None:
    registry = CollectorRegistry()
    reference = TheirHistogram("seconds", "How long.", buckets=BOUNDS, registry=registry)
    ours = Histogram(BOUNDS)
    for value in observations:
        reference.observe(value)
        ours.observe(value)
    assert samples_of(parsed(exposition([histogram_family("seconds", "How long.", ours)]))) == samples_of(
        parsed(generate_latest(registry))
    )


@given(st.dictionaries(LABEL, st.integers(0, 2**53), min_size=1))
def test_counter_with_any_labels_is_parsed_by_prometheus_client(counts: dict[str, int]) -> None:
    registry = CollectorRegistry()
    reference = Counter("refreshes_total", "Attempts.", ["outcome"], registry=registry)
    for outcome, count in counts.items():
        reference.labels(outcome).inc(count)
    ours = Family("refreshes_total", "counter", "Attempts.", [Sample({"outcome": o}, n) for o, n in counts.items()])
    assert samples_of(parsed(exposition([ours]))) == samples_of(parsed(generate_latest(registry)))


@given(st.dictionaries(LABEL, FINITE | st.just(float("inf")), min_size=1))
def test_gauge_is_parsed_by_prometheus_client(values: dict[str, float]) -> None:
    registry = CollectorRegistry()
    reference = Gauge("skew_seconds", "How far.", ["role"], registry=registry)
    for role, value in values.items():
        reference.labels(role).set(value)
    ours = Family("skew_seconds", "gauge", "How far.", [Sample({"role": role}, n) for role, n in values.items()])
    assert samples_of(parsed(exposition([ours]))) == samples_of(parsed(generate_latest(registry)))


@given(LABEL)
def test_label_value_is_escaped(value: str) -> None:
    text = exposition([Family("one", "gauge", "One.", [Sample({"label": value, "other": "x"}, 1)])])
    assert text.count(b"\n") == 3
    (family,) = parsed(text)
    assert [sample.labels for sample in family.samples] == [{"label": value, "other": "x"}]


# The format


def test_exposition_has_help_type_and_samples() -> None:
    families = [
        Family("a_total", "counter", "Counted.", [Sample({}, 3)]),
        Family("b", "gauge", "Seen.", []),
        Family("c_seconds", "gauge", "Measured.", [Sample({"role": 'a"b\\c\nd'}, 0.5)]),
    ]
    assert exposition(families).decode() == (
        "# HELP a_total Counted.\n"
        "# TYPE a_total counter\n"
        "a_total 3\n"
        "# HELP c_seconds Measured.\n"
        "# TYPE c_seconds gauge\n"
        'c_seconds{role="a\\"b\\\\c\\nd"} 0.5\n'
    )


def test_buckets_are_cumulative_and_end_at_infinity() -> None:
    histogram = Histogram((1.0, 2.5))
    for value in (0.5, 1.0, 1.1, 2.5, 99.0):
        histogram.observe(value)
    samples = histogram_family("seconds", "How long.", histogram).samples
    assert [(sample.suffix, sample.labels.get("le"), sample.value) for sample in samples] == [
        ("_bucket", "1.0", 2),
        ("_bucket", "2.5", 4),
        ("_bucket", "+Inf", 5),
        ("_sum", None, pytest.approx(104.1)),
        ("_count", None, 5),
    ]


def test_bucket_bounds_increase_up_to_the_deadline() -> None:
    assert list(STS_SECONDS_BUCKETS) == sorted(set(STS_SECONDS_BUCKETS))
    assert STS_SECONDS_BUCKETS[-1] == 10.0


# Bounded labels


def test_outcomes_are_counted_by_role() -> None:
    metrics = Metrics()
    for outcome in ("success", "Timeout", "success"):
        metrics.count_refresh("default", outcome)
    assert metrics.refreshes == {("default", "success"): 2, ("default", "Timeout"): 1}


@given(st.lists(st.text(max_size=3), max_size=300))
def test_number_of_unknown_outcomes_is_limited(outcomes: list[str]) -> None:
    metrics = Metrics()
    for outcome in outcomes:
        metrics.count_refresh("default", outcome)
    assert len(metrics.refreshes) <= MAX_OUTCOMES + 1
    assert sum(metrics.refreshes.values()) == len(outcomes)


def test_outcomes_beyond_the_limit_count_as_other() -> None:
    metrics = Metrics()
    for number in range(MAX_OUTCOMES):
        metrics.count_refresh("default", f"Code{number}")
    for outcome in ("Code7", "New1", "New2"):
        metrics.count_refresh("default", outcome)
    assert metrics.refreshes["default", "Code7"] == 2
    assert metrics.refreshes["default", "other"] == 2
    assert not any(re.match("New", outcome) for _, outcome in metrics.refreshes)
