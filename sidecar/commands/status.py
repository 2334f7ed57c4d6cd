"""
Show what the daemons have: when credentials expire, the next refresh, the last response of STS, and the last client.

Without --pod, --namespace or --all, it reads the daemon of this Pod. As `kubectl irsa-sidecar status`, it reads the
Pods in the namespace of the kubeconfig's context. It reads the admin port of a Pod through the API server, which needs
the permission to get pods/proxy. With --exec, it uses kubectl exec instead. It changes nothing.

Exit status: 0 every Pod has valid credentials, 1 a Pod has none or does not respond, or no Pod has a sidecar, 2 wrong
usage. Ctrl-C exits with 1, and with --watch with the status of the last report.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from sidecar.config.settings import PREFIX
from sidecar.console import show_progress
from sidecar.errors import ConfigurationError
from sidecar.role import parse_whole_number
from sidecar.terminal import wants_colours

if TYPE_CHECKING:  # the modules of the status are imported only after the flags are checked
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.status.collect import Scope
    from sidecar.status.report import View
    from sidecar.status.watch import Look, Shown

EXAMPLE = """\
examples:
  kubectl exec POD -c irsa-sidecar -- irsa-sidecar status
  irsa-sidecar status --namespace shop
  irsa-sidecar status --all --watch
  irsa-sidecar status --all --json | jq -r '.pods[] | select(.state != "ready") | .pod'"""

PLUGIN = "kubectl-irsa_sidecar"
"""The name of this program as a plugin of kubectl (kubectl documentation, Extend kubectl with plugins)."""

WATCH_SECONDS = "5"
"""Default interval of --watch."""

MAX_INTERVAL_SECONDS = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pod", metavar="[NAMESPACE/]NAME", help="read the daemon of the Pod NAME")
    parser.add_argument(
        "--namespace", metavar="NAME", help="read all Pods with a sidecar in this namespace; -n is the same"
    )
    parser.add_argument(
        "--all", action="store_true", help="read all Pods with a sidecar in all namespaces; -A is the same"
    )
    # The short flags are those of kubectl. Completion and the reference show only the long flags.
    parser.add_argument("-n", dest="namespace", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("-A", dest="all", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--context", metavar="NAME", help="context of the kubeconfig [the current context]")
    parser.add_argument(
        "--exec", action="store_true", help="read with kubectl exec instead of through the API server's proxy"
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=WATCH_SECONDS,
        help=f"repeat after this time, or after {WATCH_SECONDS} s, until Ctrl-C",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document, with --watch one per line")
    parser.add_argument(
        "--admin-listen", metavar="HOST:PORT", help=f"admin address of the daemon in this Pod ({PREFIX}ADMIN_LISTEN)"
    )


def main(args: argparse.Namespace) -> int:
    interval = None if args.watch is None else parse_whole_number("--watch", args.watch, 1, MAX_INTERVAL_SECONDS)
    is_in_cluster = bool(args.pod or args.namespace or args.all or (_is_plugin() and not args.admin_listen))
    _check_flags(args, is_in_cluster=is_in_cluster)
    if not is_in_cluster:
        return _run(LookHere(args), interval, is_json=args.json)
    from sidecar.kubernetes.open_cluster import open_named_cluster  # noqa: PLC0415  only for a cluster

    with open_named_cluster(os.environ, args.context, "irsa-sidecar status") as kubernetes:
        return _run(LookAtPods(args, kubernetes), interval, is_json=args.json)


def _is_plugin() -> bool:
    return os.path.basename(sys.argv[0]) == PLUGIN


def _check_flags(args: argparse.Namespace, *, is_in_cluster: bool) -> None:
    """Raise ConfigurationError if two flags contradict each other."""
    chosen = [
        flag for flag, value in (("--pod", args.pod), ("--namespace", args.namespace), ("--all", args.all)) if value
    ]
    if args.all and len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)} name different Pods", fix="Use one of them", setting="--all")
    if is_in_cluster and args.admin_listen:
        raise ConfigurationError(
            "--admin-listen is for the daemon of this Pod", fix=f"Remove it or {chosen[0]}", setting="--admin-listen"
        )
    if not is_in_cluster and (args.context or args.exec):
        raise ConfigurationError(
            "--context and --exec are for Pods in a cluster",
            fix="Name the Pods with --pod, --namespace or --all",
            setting="--context",
        )


def _scope(args: argparse.Namespace, kubernetes: "Kubernetes") -> "Scope":
    from sidecar.doctor.probes.pod import parse_namespace, parse_pod_name  # noqa: PLC0415  only for a cluster
    from sidecar.status.collect import Scope  # noqa: PLC0415  only for a cluster

    namespace = parse_namespace("--namespace", args.namespace) if args.namespace else None
    if args.all:
        return Scope("")
    if not args.pod:
        return Scope(namespace or kubernetes.namespace or "default")
    of_pod, name = parse_pod_name(args.pod)
    if of_pod and namespace not in {None, of_pod}:
        raise ConfigurationError(
            f"--pod is {args.pod!r} and --namespace is {namespace!r}, which are different namespaces",
            fix="Remove one of the namespaces",
            setting="--namespace",
        )
    return Scope(of_pod or namespace or kubernetes.namespace or "default", name)


class LookHere:
    """A function that reads the daemon in this Pod."""

    def __init__(self, args: argparse.Namespace) -> None:
        from sidecar.status.here import admin_address_here  # noqa: PLC0415  only after the flags are checked

        self._args = args
        self._address = admin_address_here(args.admin_listen, os.environ)

    async def __call__(self) -> "Shown":
        from sidecar.serving import status, status_page  # noqa: PLC0415  only after the flags are checked
        from sidecar.status import here, screen, watch  # noqa: PLC0415  only after the flags are checked

        found = await trio.to_thread.run_sync(here.read_here, self._address, abandon_on_cancel=True)

        def render() -> str:
            if self._args.json:
                return status.as_json(found)
            return status_page.as_text(found, screen.output().width).rstrip("\n")

        return watch.Shown(render, not found.is_available, time.time())


class LookAtPods:
    """A function that reads the daemons of Pods in a cluster. The first call shows its progress on stderr."""

    def __init__(self, args: argparse.Namespace, kubernetes: "Kubernetes") -> None:
        self._args = args
        self._kubernetes = kubernetes
        self._scope = _scope(args, kubernetes)
        self._progress: Callable[[str], None] = show_progress

    async def __call__(self) -> "Shown":
        from sidecar.status import collect, report, watch  # noqa: PLC0415  only for a cluster

        cluster = self._kubernetes
        targets = await trio.to_thread.run_sync(collect.find_targets, cluster, self._scope, abandon_on_cancel=True)
        states = await collect.read_states(cluster, targets, execs=self._args.exec, progress=self._progress)
        self._progress = _ignore

        def render() -> str:
            if self._args.json:
                return report.as_json(states, cluster.context, indent=2 if self._args.watch is None else None)
            return report.as_text(states, self._view())

        return watch.Shown(render, report.fails(states), time.time())

    def _view(self) -> "View":
        from sidecar.status import report, screen  # noqa: PLC0415  only for a cluster

        output, namespace = screen.output(), self._scope.namespace
        is_redrawn = output.is_terminal and self._args.watch is not None
        return report.View(
            width=output.width,
            place=f"{f'namespace {namespace}' if namespace else 'all namespaces'}, context {self._kubernetes.context}",
            pod=self._scope.pod or "",
            height=output.height - screen.Screen.head_lines if is_redrawn else None,
            has_namespaces=not namespace,
            colours=output.is_terminal and wants_colours(),
        )


def _ignore(_text: str) -> None:
    """Show no progress, because the last report is visible."""


def _run(look: "Look", interval_seconds: int | None, *, is_json: bool) -> int:
    """Print one report, or repeat it. Return the exit status."""
    if interval_seconds is not None:
        return trio.run(_watch, look, interval_seconds, is_json)
    from sidecar.status import screen  # noqa: PLC0415  only after the flags are checked

    shown = trio.run(look)
    screen.write(f"{shown.render()}\n")
    return int(shown.fails)


async def _watch(look: "Look", interval_seconds: int, is_json: bool) -> int:  # noqa: FBT001  trio.run passes it
    from sidecar.status import screen, watch  # noqa: PLC0415  only for --watch

    shown = screen.Screen(is_json=is_json)
    repeated = watch.Watch(look, shown.show, interval_seconds)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGWINCH) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeated.run)
            async for number in signals:
                if number == signal.SIGINT:
                    break
                if shown.is_terminal:
                    repeated.redraw()
            nursery.cancel_scope.cancel()
    return repeated.exit_status
