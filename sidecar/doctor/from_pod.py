"""A Pod from outside: what its document says and, where that is wanted, what doctor finds inside."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import trio

from sidecar.doctor.checks import pod, pod_container
from sidecar.doctor.checks.pod import PodFacts
from sidecar.doctor.finding import Row, Status, left_out
from sidecar.doctor.location import Side
from sidecar.doctor.probes import pod as gather_pod
from sidecar.doctor.report import Report, rows
from sidecar.errors import KubernetesError


async def examine(environ: Mapping[str, str], where: str, context: str | None, *, execs: bool) -> Report:
    """
    `where` is NAME or NAMESPACE/NAME; `execs` is whether to run doctor in the sidecar's container too.

    Raises ConfigurationError, and KubernetesError where the Pod may not be read.
    """
    look = partial(gather_pod.look, environ, where, context)
    facts = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    outside = (*rows("pod", pod.CHECKS, facts), *pod_container.container_rows(facts))
    inside = await _inside(facts, context, execs=execs) if facts.sidecar is not None else ()
    return Report(Side.POD, (*_with_remedy(outside, inside), *inside), {})


def _with_remedy(outside: Iterable[Row], inside: Iterable[Row]) -> Iterator[Row]:
    """Why the daemon has no credentials is seen inside: what helps there is the next step."""
    cause = next((row for row in inside if row.finding.status is Status.WRONG), None)
    for row in outside:
        is_consequence = row.check == "readiness" and row.finding.status is Status.WRONG
        if cause is None or not is_consequence:
            yield row
        else:
            yield row._replace(finding=row.finding._replace(next_step=cause.finding.next_step))


async def _inside(facts: PodFacts, context: str | None, *, execs: bool) -> tuple[Row, ...]:
    if not execs:
        why = "token, STS and what is served are seen from inside only"
        return (Row("inside", "all", left_out(why, f"Add --exec, or: {pod.command_inside(facts)}")),)
    look = partial(gather_pod.look_inside, facts, context)
    try:
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    except KubernetesError as error:
        return (Row("inside", "all", left_out(str(error), f"Run it yourself: {pod.command_inside(facts)}")),)
