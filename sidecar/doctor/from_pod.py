"""Examine a Pod from outside, from its document. With --exec, also run doctor in its sidecar."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import trio

from sidecar.doctor.checks import pod, pod_container
from sidecar.doctor.checks.pod import PodFacts
from sidecar.doctor.finding import Finding, Row, Status, skipped
from sidecar.doctor.location import Side
from sidecar.doctor.probes import pod as pod_probe
from sidecar.doctor.probes.pod import Inside
from sidecar.doctor.report import Report, rows
from sidecar.errors import KubernetesError


async def examine(environ: Mapping[str, str], pod_name: str, context: str | None, *, execs: bool) -> Report:
    """
    Run the checks for one Pod.

    `pod_name` is NAME or NAMESPACE/NAME. `execs` is true to run doctor in the sidecar's container too.

    Raises ConfigurationError if `pod_name` is invalid, and KubernetesError if the Pod cannot be read.
    """
    probe = partial(pod_probe.collect, environ, pod_name, context)
    facts = await trio.to_thread.run_sync(probe, abandon_on_cancel=True)
    inside = await _inside(facts, context, execs=execs) if facts.sidecar is not None else Inside()
    facts = facts._replace(token_lifetimes=inside.token_lifetimes)
    outside = (*rows("pod", pod.CHECKS, facts), *pod_container.container_rows(facts))
    return Report(Side.POD, (*_with_inside_fix(outside, inside.rows), *inside.rows), {}, inside.token_lifetimes)


def _with_inside_fix(outside: Iterable[Row], inside: Iterable[Row]) -> Iterator[Row]:
    """
    Yield the outside findings. A failed readiness check gets the next step of the first failure inside the Pod.

    Only doctor inside the Pod can determine why the daemon has no credentials.
    """
    cause = next((row for row in inside if row.finding.status is Status.FAILED), None)
    for row in outside:
        is_consequence = row.check == "readiness" and row.finding.status is Status.FAILED
        if cause is None or not is_consequence:
            yield row
        else:
            yield row._replace(finding=row.finding._replace(next_step=cause.finding.next_step))


async def _inside(facts: PodFacts, context: str | None, *, execs: bool) -> Inside:
    if not execs:
        reason = "the token, STS and the endpoint can be checked only from inside the Pod"
        return _not_inside(skipped(reason, f"Add --exec, or run: {pod.command_inside(facts)}"))
    probe = partial(pod_probe.collect_inside, facts, context)
    try:
        return await trio.to_thread.run_sync(probe, abandon_on_cancel=True)
    except KubernetesError as error:
        return _not_inside(skipped(error.problem, f"Run it yourself: {pod.command_inside(facts)}"))


def _not_inside(finding: Finding) -> Inside:
    return Inside((Row("inside", "all", finding),))
