"""
Read the state of Pods' daemons through the API server, or with kubectl exec.

Rule: a Pod that does not respond is a result with the reason, and never ends the command. The number of requests at the
same time, and the time and the size of each response, are limited.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from sidecar.errors import KubernetesError, SidecarError
from sidecar.kubernetes.names import path_segment
from sidecar.status.read import MAX_BYTES, UnreadableError, read_status
from sidecar.status.targets import PodState, Target, can_respond, exec_command, proxy_path, target_of

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

MAX_REQUESTS = 32
"""Maximum number of requests at the same time. 500 Pods that do not respond take 80 s."""

MAX_EXECS = 8
"""Maximum number of kubectl processes at the same time. Each needs about 50 MiB."""

POD_SECONDS = 5.0
"""Deadline for the response of a Pod, which takes milliseconds."""

EXEC_SECONDS = 20.0
"""Deadline for kubectl exec, which starts a Python process in the Pod."""

MAX_ERROR = 300
"""Longest error of a Pod or of kubectl, in characters."""

FORBIDDEN, NOT_FOUND = 403, 404

PROXY_RULE = '{apiGroups: [""], resources: [pods/proxy], verbs: [get]}'
"""The RBAC rule that allows a user to read the admin port through the API server."""

EXEC_RULE = '{apiGroups: [""], resources: [pods/exec], verbs: [create]}'
"""The RBAC rule that allows a user to run commands in Pods."""

_MISSING_PROXY = f"Ask for the RBAC rule {PROXY_RULE}, or add --exec, which needs pods/exec"
_MISSING_EXEC = f"Ask for the RBAC rule {EXEC_RULE}, or omit --exec, and the command needs pods/proxy"
"""The next steps if the user may not read through the proxy, or may not use kubectl exec."""

_USE_EXEC = "Add --exec to read with kubectl exec"


class Scope(NamedTuple):
    """The Pods to read: one Pod, the Pods of a namespace, or all Pods if the namespace is empty."""

    namespace: str
    pod: str | None = None


Progress = Callable[[str], None]


def find_targets(kubernetes: "Kubernetes", scope: Scope) -> list[Target]:
    """
    Return the Pods with a sidecar, by namespace and name.

    Raises KubernetesError if the Pods cannot be read, or if a named Pod does not exist or has no sidecar.
    """
    if scope.pod is not None:
        return [_named_target(kubernetes, scope.namespace, scope.pod)]
    path = f"/api/v1/namespaces/{path_segment(scope.namespace)}/pods" if scope.namespace else "/api/v1/pods"
    found = (target_of(document) for document in kubernetes.items(path) if isinstance(document, dict))
    return sorted((target for target in found if target is not None), key=lambda target: target[:2])


def _named_target(kubernetes: "Kubernetes", namespace: str, pod: str) -> Target:
    document = kubernetes.get(f"/api/v1/namespaces/{path_segment(namespace)}/pods/{path_segment(pod)}")
    where = f"in namespace {namespace} of context {kubernetes.context}"
    if document is None:
        raise KubernetesError(
            f"Pod {pod} does not exist {where}", fix=f"List the Pods: kubectl get pods -n {namespace}"
        )
    target = target_of(document)
    if target is None:
        raise KubernetesError(
            f"Pod {pod} {where} has no running sidecar",
            fix=f"Run `irsa-sidecar doctor --pod {namespace}/{pod}`, which shows the reason",
        )
    return target


async def read_states(
    kubernetes: "Kubernetes", targets: Sequence[Target], *, execs: bool, progress: Progress
) -> list[PodState]:
    """Return the state of each target, in the order of the targets."""
    states: dict[Target, PodState] = {}
    limiter = trio.CapacityLimiter(MAX_EXECS if execs else MAX_REQUESTS)

    async def read(target: Target) -> None:
        async with limiter:
            states[target] = await _read(kubernetes, target, execs=execs)
        progress(f"{len(states)} of {len(targets)} Pods")

    try:
        async with trio.open_nursery() as nursery:
            for target in targets:
                nursery.start_soon(read, target)
    finally:
        progress("")
    return [states[target] for target in targets]


async def _read(kubernetes: "Kubernetes", target: Target, *, execs: bool) -> PodState:
    if not can_respond(target, execs=execs):
        return _without_request(target)
    try:
        if execs:
            body = await _through_exec(target, kubernetes.context)
        else:
            body = await _through_proxy(kubernetes, target)
        return PodState(target, read_status(body))
    except UnreadableError as error:
        return PodState(target, None, str(error))
    except SidecarError as error:
        if error.problem == _GONE:  # a Pod of a rollout ended after the list was read
            target = target._replace(is_terminating=True)
        return PodState(target, None, error.problem, error.fix)


_GONE = "the Pod no longer exists"


def _without_request(target: Target) -> PodState:
    if target.problem or target.address is None:
        return PodState(target, None, target.problem)
    return PodState(target, None, f"the admin address {target.address[0]} is only reachable from the Pod", _USE_EXEC)


async def _through_proxy(kubernetes: "Kubernetes", target: Target) -> bytes:
    read = partial(kubernetes.read_from_pod, proxy_path(target), max_bytes=MAX_BYTES, seconds=POD_SECONDS)
    try:
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    except KubernetesError as error:
        raise _explained(error, target) from error


def _explained(error: KubernetesError, target: Target) -> KubernetesError:
    """Return the error without the Pod's name, so that equal problems of many Pods are one line."""
    reason = " ".join(error.reason.split())[:MAX_ERROR]
    if error.status == FORBIDDEN and "pods/proxy" in reason:  # otherwise the Pod, or a proxy before it, sent the 403
        return KubernetesError(
            f"you may not get pods/proxy in namespace {target.namespace}",
            fix=_MISSING_PROXY,
            status=FORBIDDEN,
        )
    if error.status == NOT_FOUND and "pods" in reason and "not found" in reason:
        return KubernetesError(_GONE, status=NOT_FOUND)
    if error.status == NOT_FOUND:
        return KubernetesError("the daemon has no /status", fix="Update the image of the sidecar", status=NOT_FOUND)
    if error.status is None:
        return error if error.fix else KubernetesError(error.problem, fix=_CHECK_POLICY)
    unreachable = "error trying to reach service" in reason
    return KubernetesError(
        f"the response has the status {error.status}{f': {reason}' if reason else ''}",
        fix=_CHECK_POLICY if unreachable else "",
        status=error.status,
    )


_CHECK_POLICY = f"Check that the node is ready, and that network policies allow the admin port. {_USE_EXEC}"


async def _through_exec(target: Target, context: str | None) -> bytes:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise KubernetesError("kubectl is not in PATH, and --exec needs it", fix="Install kubectl")
    where = [*(["--context", context] if context else []), "-n", target.namespace, target.pod, "-c", target.container]
    command = [kubectl, "exec", *where, "--", *exec_command(target)]
    printed, error = await _limited_output(command)
    if not printed:
        line = error.decode("utf-8", "replace").strip().partition("\n")[0][:MAX_ERROR]
        raise _exec_error(line, target)
    return printed


def _exec_error(line: str, target: Target) -> KubernetesError:
    if "pods/exec" in line and "forbidden" in line.lower():
        problem = f"you may not create pods/exec in namespace {target.namespace}"
        return KubernetesError(problem, fix=_MISSING_EXEC, status=FORBIDDEN)
    return KubernetesError(f"kubectl exec failed: {line or 'no status in that image'}")


async def _limited_output(command: Sequence[str]) -> tuple[bytes, bytes]:
    """
    Run the command, and return at most slightly more than MAX_BYTES of its stdout, and of its stderr.

    Raises KubernetesError if the command does not start, or does not end in time.
    """
    try:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except (OSError, ValueError) as exc:  # for example, a flag in the Pod's document contains a NUL
        raise KubernetesError(f"kubectl cannot be started ({exc})") from exc
    outputs = {stream: bytearray() for stream in (process.stdout, process.stderr) if stream is not None}
    try:
        with trio.fail_after(EXEC_SECONDS):
            async with trio.open_nursery() as nursery:
                for stream, output in outputs.items():
                    nursery.start_soon(_read_limited, stream, output, nursery.cancel_scope)
    except trio.TooSlowError as exc:
        raise KubernetesError(f"kubectl exec did not respond within {EXEC_SECONDS:.0f} s") from exc
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)
    printed, errors = outputs.values()
    return bytes(printed), bytes(errors)


async def _read_limited(stream: trio.abc.ReceiveStream, output: bytearray, scope: trio.CancelScope) -> None:
    async for piece in stream:
        output += piece
        if len(output) > MAX_BYTES:
            scope.cancel()


async def _end(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    for stream in _streams(process):
        await stream.aclose()


def _streams(process: trio.Process) -> Iterator[trio.abc.AsyncResource]:
    yield from (stream for stream in (process.stdout, process.stderr) if stream is not None)
