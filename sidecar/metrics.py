"""
Count events, and write the counts in the text format of Prometheus. serving/admin.py has the names and help texts.

Rules. Counting only adds to plain numbers, because requests wait for it. All other work is done during a scrape. A
client or STS cannot create an unlimited number of label values. prometheus-client is not used, because it needs 1.4 MiB
in each Pod. Tests check the text with its parser and naming rules (Prometheus text exposition format 0.0.4).
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

STS_SECONDS_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of STS calls, in seconds."""

MAX_OUTCOMES = 50
"""Limit for different refresh outcomes of a role. AWS has fewer codes for our calls. Other codes count as `other`."""

_SUCCESS, _FAILURE = "success", "failure"


class Histogram:
    """Counts of observations per bucket. `histogram_family` makes them cumulative, as Prometheus expects."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """The counters of one daemon."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.imds_requests: dict[int, int] = {}
        self.refreshes: dict[tuple[str, str], int] = {}
        self.sts_seconds = Histogram(STS_SECONDS_BUCKETS)
        self.clock_steps = 0
        self.sts_regions: dict[str, bool] = {}
        """The STS regions of the settings. The value is True for the active region."""
        self.sts_endpoint_changes = 0
        self.reloads: dict[str, int] = {}
        self.is_configuration_current = True
        """True if the last reload of the roles file succeeded, or if there was no reload yet."""
        self.is_ca_bundle_in_use: bool | None = None
        """True if the current content of the AWS_CA_BUNDLE file is in use; None without that setting."""

        self.task_failures: dict[str, int] = {}
        """The number of failures by the name of the background task."""

        self.credentials_file_writes: dict[str, int] = {}
        self.state_writes: dict[str, int] = {}

    def count_task_failure(self, task: str) -> None:
        self.task_failures[task] = self.task_failures.get(task, 0) + 1

    def count_credentials_file(self, *, is_successful: bool) -> None:
        outcome = _SUCCESS if is_successful else _FAILURE
        self.credentials_file_writes[outcome] = self.credentials_file_writes.get(outcome, 0) + 1

    def count_state_write(self, *, is_successful: bool) -> None:
        outcome = _SUCCESS if is_successful else _FAILURE
        self.state_writes[outcome] = self.state_writes.get(outcome, 0) + 1

    def count_reload(self, *, is_accepted: bool) -> None:
        outcome = _SUCCESS if is_accepted else _FAILURE
        self.reloads[outcome] = self.reloads.get(outcome, 0) + 1
        self.is_configuration_current = is_accepted

    def count_refresh(self, role: str, outcome: str) -> None:
        key = (role, outcome)
        if key not in self.refreshes and sum(of == role for of, _ in self.refreshes) >= MAX_OUTCOMES:
            key = (role, "other")
        self.refreshes[key] = self.refreshes.get(key, 0) + 1


class Sample(NamedTuple):
    """One line of a scrape: the suffix of the family's name, the labels and the value."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


class Family(NamedTuple):
    """One metric with its help and type."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def histogram_family(name: str, text: str, histogram: Histogram) -> Family:
    samples, total = [], 0
    # The label `le` is `1.0` as in OpenMetrics and Prometheus 3. Labels are text, so `1` would be another series.
    for bound, count in zip((*map(str, map(float, histogram.bounds)), "+Inf"), histogram.counts, strict=True):
        total += count
        samples.append(Sample({"le": bound}, total, "_bucket"))
    samples += [Sample({}, histogram.sum, "_sum"), Sample({}, total, "_count")]
    return Family(name, "histogram", text, samples)


def exposition(families: Iterable[Family]) -> bytes:
    """Return the body of a scrape. Families without samples are omitted."""
    lines = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [_line(family.name, sample) for sample in family.samples]
    return ("\n".join(lines) + "\n").encode()


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    return (
        f"{name}{sample.suffix}{{{labels}}} {_number(sample.value)}"
        if labels
        else f"{name}{sample.suffix} {_number(sample.value)}"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
