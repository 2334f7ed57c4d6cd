"""A Pod from outside: what its document says and, where that is wanted, what doctor finds inside."""

from collections.abc import Mapping
from functools import partial

import trio

from sidecar.doctor import pod
from sidecar.doctor.finding import Row, left_out
from sidecar.doctor.gather import pod as gather_pod
from sidecar.doctor.place import Side
from sidecar.doctor.pod import PodFacts
from sidecar.doctor.report import Report, rows
from sidecar.errors import KubernetesError


async def examine(environ: Mapping[str, str], where: str, context: str | None, *, execs: bool) -> Report:
    """
    `where` is NAME or NAMESPACE/NAME; `execs` is whether to run doctor in the sidecar's container too.

    Raises ConfigurationError, and KubernetesError where the Pod may not be read.
    """
    look = partial(gather_pod.look, environ, where, context)
    facts = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    found = [*rows("pod", pod.CHECKS, facts), *pod.container_rows(facts)]
    if facts.sidecar is not None:
        found += await _inside(facts, context, execs=execs)
    return Report(Side.POD, tuple(found), {})


async def _inside(facts: PodFacts, context: str | None, *, execs: bool) -> tuple[Row, ...]:
    if not execs:
        why = "token, STS and what is served are seen from inside only"
        return (Row("inside", "all", left_out(why, f"Add --exec, or: {pod.command_inside(facts)}")),)
    look = partial(gather_pod.look_inside, facts, context)
    try:
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    except KubernetesError as error:
        return (Row("inside", "all", left_out(str(error), f"Run it yourself: {pod.command_inside(facts)}")),)
