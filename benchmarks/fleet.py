"""
Simulate the requests of a fleet of Pods to STS with the real schedule.

    python -m benchmarks.fleet [--pods 100000] [--only steady max ...] [--quota 600] [--plots DIRECTORY]

Every Pod is a `Schedule`, and every attempt calls the functions of the daemon (`sidecar/refresh/schedule.py`,
`sidecar/sts/failover.py`). Only STS is simulated: a quota of requests per second, outages of a region, and a latency.
Time is simulated, so days take seconds. Requests and Pods without credentials are counted in windows of ten seconds.

Each scenario has its own fleet and seed. The scenarios run in parallel on the available processors.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import plot_fleet
from benchmarks.arguments import at_least
from sidecar.clock import Instant
from sidecar.errors import ExchangeError, NextStep
from sidecar.refresh import schedule
from sidecar.refresh.schedule import Schedule
from sidecar.sts import failover

WINDOW_SECONDS = 10
HOUR = 3600.0

LATENCY_SECONDS = 0.1
"""Time from a request to its response, including TLS."""

SILENCE_SECONDS = 3.0
"""Time of an attempt without a response (CONNECT_SECONDS of `sidecar/sts/client.py`)."""

OUT = ExchangeError("Unreachable", "out", NextStep.RETRY)
THROTTLED = ExchangeError("Throttling", "Rate exceeded", NextStep.SLOW_DOWN, status=400)


class Outage(NamedTuple):
    """A period in which one region's STS does not respond."""

    begins_at: float
    ends_at: float
    region: int = failover.PRIMARY


@dataclass(frozen=True)
class Scenario:
    """
    A fleet and the events that affect it, with times in seconds from the start.

    All Pods start within `start_seconds`. None means that the fleet has always been running, with spread refreshes.
    `quota` is the number of requests per second that STS accepts in each region, or None for no limit. `regions` is
    the number of regions: the first region and its fallbacks.
    """

    name: str
    hours: float
    session_seconds: float = HOUR
    start_seconds: float | None = None
    quota: float | None = None
    outages: tuple[Outage, ...] = ()
    regions: int = 1


@dataclass
class Counts:
    """Counts per window: requests to STS, returned credentials, and changes in the number of Pods without them."""

    windows: int
    requested: list[int] = field(init=False)
    granted: list[int] = field(init=False)
    without: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.requested, self.granted = [0] * self.windows, [0] * self.windows
        self.without = [0] * (self.windows + 1)

    def gap(self, begins_at: float, ends_at: float) -> None:
        """Count a Pod that has no credentials from the first time to the second."""
        first, last = int(begins_at // WINDOW_SECONDS), int(ends_at // WINDOW_SECONDS)
        if first < self.windows:
            self.without[max(first, 0)] += 1
            self.without[min(last, self.windows)] -= 1

    def pods_without(self) -> list[int]:
        total, series = 0, []
        for change in self.without[:-1]:
            total += change
            series.append(total)
        return series


class Sts:
    """A simulated STS. Each region has outages, and a token bucket with the quota of one second (at least 1)."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._left = [scenario.quota or 0.0] * scenario.regions
        self._filled_at = [0.0] * scenario.regions

    def request(self, region: int, now: float) -> ExchangeError | None:
        """Return the error, or None if STS returns credentials."""
        if any(o.region == region and o.begins_at <= now < o.ends_at for o in self._scenario.outages):
            return OUT
        quota = self._scenario.quota
        if quota is None:
            return None
        self._left[region] = min(max(quota, 1.0), self._left[region] + quota * (now - self._filled_at[region]))
        self._filled_at[region] = now
        if self._left[region] < 1.0:
            return THROTTLED
        self._left[region] -= 1.0
        return None


@dataclass(slots=True)
class Pod:
    """A daemon with its schedule, its region, and the expiration of its credentials."""

    plan: Schedule
    regions: failover.Failover
    valid_until: float


def simulate(scenario: Scenario, pods: int, seed: int) -> Counts:
    """Simulate the fleet for the whole period, and return the counts."""
    chance = random.Random(seed).random
    end = scenario.hours * HOUR
    counts, sts = Counts(int(end // WINDOW_SECONDS)), Sts(scenario)
    fleet = [_born(scenario, chance) for _ in range(pods)]
    queue = [(pod.plan.due.monotonic, number) for number, pod in enumerate(fleet)]
    heapify(queue)
    while queue[0][0] < end:
        now, number = queue[0]
        pod = fleet[number]
        _attempt(pod, now, scenario, sts, counts, chance)
        heapreplace(queue, (pod.plan.due.monotonic, number))
    for pod in fleet:
        if pod.valid_until < end:
            counts.gap(pod.valid_until, end)
    return counts


def _born(scenario: Scenario, chance: Callable[[], float]) -> Pod:
    """Return a Pod that starts within `start_seconds`, or else a Pod at a random point of its session."""
    regions = failover.Failover(scenario.regions)
    if scenario.start_seconds is not None:
        at = chance() * scenario.start_seconds
        return Pod(schedule.at_start(Instant(at, at)), regions, at)
    refreshed_at = -chance() * schedule.refresh_after_seconds(scenario.session_seconds, chance())
    began = Instant(refreshed_at, refreshed_at)
    plan = schedule.after_success(began, scenario.session_seconds, chance())
    while plan.due.monotonic < 0:  # the refresh is due in the past, so the Pod already has its next session
        began = plan.due
        plan = schedule.after_success(began, scenario.session_seconds, chance())
    return Pod(plan, regions, began.monotonic + scenario.session_seconds)


def _attempt(  # noqa: PLR0917  the state of one turn of the loop
    pod: Pod, now: float, scenario: Scenario, sts: Sts, counts: Counts, chance: Callable[[], float]
) -> None:
    """Simulate one attempt, with the steps of regions.py and refresher.py."""
    region = pod.regions.endpoint_at(now)
    error, now = _request(pod, region, now, sts, counts)
    if error is not None and region != pod.regions.active:
        error, now = _request(pod, pod.regions.active, now, sts, counts)
    at = Instant(now, now)
    if error is None:
        if pod.valid_until < now:
            counts.gap(pod.valid_until, now)
        pod.valid_until = now + scenario.session_seconds
        pod.plan = schedule.after_success(at, scenario.session_seconds, chance())
    else:
        remaining_seconds = max(0.0, pod.valid_until - now)
        pod.plan = schedule.after_failure(pod.plan, at, error.next_step, chance(), remaining_seconds=remaining_seconds)


def _request(pod: Pod, region: int, now: float, sts: Sts, counts: Counts) -> tuple[ExchangeError | None, float]:
    error = sts.request(region, now)
    window = int(now // WINDOW_SECONDS)
    if window < counts.windows:
        counts.requested[window] += 1
        counts.granted[window] += error is None
    if error is None:
        pod.regions = failover.after_success(pod.regions, region)
    else:
        follow = failover.after_outage if failover.is_outage(error, region) else failover.after_refusal
        pod.regions = follow(pod.regions, region, now)
    return error, now + (SILENCE_SECONDS if error is OUT else LATENCY_SECONDS)


# Scenarios and their goals

QUOTA = 600.0
"""
Default quota: requests per second that STS accepts from an account. AWS publishes this quota for signed requests.

AWS does not publish the quota of AssumeRoleWithWebIdentity.
"""

FLEET = 100_000


def scenarios(pods: int, quota: float) -> dict[str, Scenario]:
    """Return the scenarios by name. `quota` is for FLEET Pods and scales with the number of Pods."""
    let_through, mean = quota * pods / FLEET, pods / (HOUR / 2)
    half_hour = Outage(HOUR, 1.5 * HOUR)
    return {
        "steady": Scenario("Normal operation", 24),
        "max": Scenario("Normal operation", 48, session_seconds=12 * HOUR),
        "restart": Scenario("All Pods start within one minute", 6, start_seconds=60, quota=let_through),
        "outage": Scenario("STS down for 30 minutes", 3, quota=let_through, outages=(half_hour,)),
        "short": Scenario("STS down for 25 minutes", 3, quota=let_through, outages=(Outage(HOUR, HOUR + 1500),)),
        "throttled": Scenario("STS serves 90 % of the calls for 6 hours", 6, quota=0.9 * mean),
        "region": Scenario("One of two regions down for 3 hours", 6, outages=(Outage(HOUR, 4 * HOUR),), regions=2),
    }


class Goal(NamedTuple):
    """A goal, the measured value, and whether the value satisfies the goal."""

    text: str
    found: float
    limit: float
    at_most: bool = True

    @property
    def is_met(self) -> bool:
        return self.found <= self.limit if self.at_most else self.found >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'met' if self.is_met else 'NOT MET'}: {self.text}: {self.found:.2f} ({sign} {self.limit:g})"


def goals(name: str, scenario: Scenario, counts: Counts) -> list[Goal]:
    """Return the goals of this scenario, with the measured values."""
    requested, granted, without = counts.requested, counts.granted, counts.pods_without()
    if name in {"steady", "max"}:
        mean = sum(requested) / len(requested)
        return [
            Goal("peak of calls, relative to their mean", max(requested) / mean, _least_peak(mean)),
            _never_without(without),
        ]
    if name in {"outage", "short"}:
        ends = int(scenario.outages[0].ends_at // WINDOW_SECONDS)
        wave = max(requested[ends:]) / WINDOW_SECONDS / (scenario.quota or 1)
        lasts = _last(without[ends:]) * WINDOW_SECONDS / 60
        found = [
            Goal("peak of calls after the outage, relative to the quota", wave, 2),
            Goal("minutes until all have credentials", lasts, 5),
        ]
        return [*found, _never_without(without)] if name == "short" else found
    if name == "throttled":
        served = sum(granted) / (len(granted) * WINDOW_SECONDS * (scenario.quota or 1))
        calls = sum(requested) / sum(granted)
        return [
            Goal("served share of the quota", served, 0.95, at_most=False),
            Goal("calls for each call that STS serves", calls, 4),
        ]
    if name == "restart":
        quota = scenario.quota or 1
        minutes = Goal("minutes until all have credentials", _last(without) * WINDOW_SECONDS / 60, 5)
        backlogs = (number for number, count in enumerate(without) if 0 < count < 60 * quota and number > 6)
        backlog = next(backlogs, None)
        if backlog is None:  # the fleet is so small that no Pod had to wait a minute
            return [minutes]
        served = sum(granted[:backlog]) / (backlog * WINDOW_SECONDS * quota)
        return [minutes, Goal("served share of the quota while many Pods wait", served, 0.95, at_most=False)]
    return [_never_without(without)]


def _least_peak(mean: float) -> float:
    """Return the peak that chance alone explains: 1.5, or more if windows have few calls."""
    return max(1.5, 1 + 5 / math.sqrt(mean))


def _never_without(without: Sequence[int]) -> Goal:
    return Goal("Pods that were ever without credentials", max(without), 0)


def _last(series: Sequence[int]) -> int:
    """Return the number of windows until no Pod waits."""
    return max((number + 1 for number, count in enumerate(series) if count > 0), default=0)


def _run(name: str, scenario: Scenario, pods: int, seed: int) -> tuple[str, Counts]:
    return name, simulate(scenario, pods, seed)


def report(name: str, scenario: Scenario, counts: Counts, pods: int) -> str:
    """Return the results and the goals of one scenario as text."""
    seconds = len(counts.requested) * WINDOW_SECONDS
    rate = sum(counts.requested) / seconds
    lines = [
        f"{name}: {scenario.name}, {scenario.hours:g} hours",
        f"  calls per second: {rate:.1f}, at most {max(counts.requested) / WINDOW_SECONDS:.1f}",
        f"  calls per Pod and day: {sum(counts.requested) / pods * 24 / scenario.hours:.1f}",
        f"  Pods without credentials: at most {max(counts.pods_without()):,}",
        *(f"  {goal}" for goal in goals(name, scenario, counts)),
    ]
    return "\n".join(lines)


def store(results: dict[str, Counts], chosen: dict[str, Scenario], pods: int, directory: Path) -> None:
    """Draw the pictures, and store their data in the same folder."""
    shown = {name: _shown(chosen[name], counts, pods) for name, counts in results.items()}
    plot_fleet.write(shown, directory)


def _shown(scenario: Scenario, counts: Counts, pods: int) -> dict[str, Any]:
    what = "region 1 down" if scenario.regions > 1 else "STS down"
    described = {
        "event": scenario.name,
        "sessions": f"sessions of {scenario.session_seconds / HOUR:g} h",
        "outages": [(outage.begins_at, outage.ends_at, what) for outage in scenario.outages],
    }
    return described | plot_fleet.series(counts, WINDOW_SECONDS, scenario.quota, pods)


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate the requests of a fleet of Pods to STS.")
    parser.add_argument("--pods", type=at_least(1), default=FLEET, help=f"[{FLEET}]")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these scenarios")
    parser.add_argument(
        "--quota", type=at_least(1.0), default=QUOTA, help=f"quota in requests per second for {FLEET} Pods [{QUOTA:g}]"
    )
    parser.add_argument("--seed", type=int, default=20_270_115)
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="directory for pictures (needs matplotlib)")
    args = parser.parse_args()
    chosen = scenarios(args.pods, args.quota)
    if unknown := [name for name in args.only or () if name not in chosen]:
        parser.error(f"--only {unknown[0]}: there are {', '.join(chosen)}")
    chosen = {name: chosen[name] for name in args.only or chosen}
    print(f"{args.pods:,} Pods, --seed {args.seed}")
    with ProcessPoolExecutor() as processors:
        runs = [processors.submit(_run, name, scenario, args.pods, args.seed) for name, scenario in chosen.items()]
        results = dict(run.result() for run in runs)
    for name, counts in results.items():
        print(report(name, chosen[name], counts, args.pods))
    if args.plots:
        store(results, chosen, args.pods, args.plots)
    return 0 if all(goal.is_met for name in results for goal in goals(name, chosen[name], results[name])) else 1


if __name__ == "__main__":
    sys.exit(main())
