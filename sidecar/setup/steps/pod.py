"""
Add the sidecar to the Pods of a manifest, as the webhook does, and write the manifest to stdout.

If any Pod or Pod template in the stream has the label irsa-sidecar.io/inject: "true", the command changes only Pods
and templates with this label. Otherwise it changes all Pods and templates in the built-in kinds of Kubernetes, except
those with the label irsa-sidecar.io/inject: "false". The command changes a custom resource if spec.template has the
label or an annotation of irsa-sidecar, or if --template-path selects a template. The role comes from the Pod's
annotation irsa-sidecar.io/role-arn, or from --role-arn, or from a ServiceAccount in the same stream. Everything else
stays unchanged, including comments, and a second run changes nothing. If a Pod requests a sidecar but cannot get one,
nothing is written to stdout and the exit status is 2.
"""

import argparse
import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sidecar.console import is_on_terminal, remark, show_progress, warn
from sidecar.errors import ConfigurationError
from sidecar.injection import flags
from sidecar.injection.inject import inject
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.names import NAMESPACE
from sidecar.named_file import STDIN, read_named_file
from sidecar.printable import printable
from sidecar.role import parse_role_arn
from sidecar.setup.manifests import ChangedStream, Options, Workload, change_pods
from sidecar.setup.outcome import (
    WOULD_CHANGE,
    Outcome,
    add_outcome_arguments,
    check_outcome_arguments,
    command,
    finish,
)
from sidecar.setup.pod_kinds import template_path
from sidecar.setup.text_edits import unified_diff

EXAMPLE = """\
examples:
  irsa-sidecar setup pod app.yaml --image example.com/irsa-sidecar:0.1.0 --region eu-west-1 | kubectl apply -f -
  kustomize build . | irsa-sidecar setup pod --image irsa-sidecar:0.1.0 --region eu-west-1 --dry-run"""

MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of a manifest. Larger input is probably not a manifest."""

_MANY_PODS = 20
"""Number of Pods from which progress is shown on a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default=STDIN, metavar="FILE", help="the manifest [-, which is stdin]")
    flags.add_arguments(parser)
    parser.add_argument("--role-arn", metavar="ARN", help="the role of Pods without an annotation for the role")
    parser.add_argument("--namespace", metavar="NAME", help="the namespace of objects without a namespace")
    parser.add_argument(
        "--template-path",
        action="append",
        default=[],
        metavar="PATH",
        help="path of the Pod template in objects of other kinds, such as spec.driver.template or "
        "spec.tasks[].template; can be repeated",
    )
    parser.add_argument(
        "--no-native-sidecar", action="store_true", help="for Kubernetes before 1.29: add an ordinary container"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the difference instead of the manifest")
    add_outcome_arguments(parser)


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    settings, options = read_settings(args, os.environ), read_options(args)
    source = "stdin" if args.file == STDIN else args.file
    text = _read(args.file)
    warnings: list[str] = []

    def change(workload: Workload) -> Document:
        injected = inject(workload.pod, workload.service_account, settings)
        warnings.extend(f"{workload.title}: {warning}" for warning in injected.warnings)
        return injected.pod

    with without_cycle_collection():
        written = change_pods(text, source, change, options, show_pods_done)
    if not (written.workloads or written.notes):
        raise ConfigurationError(
            f"{source} has no Pod and no Pod template",
            fix="Use a manifest with a Pod, for example a Deployment",
        )
    for line in (*warnings, *written.notes):
        warn(line)
    outcome = _outcome(source, text, written, args.namespace)
    if args.json:
        return finish(outcome, args)
    sys.stdout.write(shown_difference(text, written, source) if args.dry_run else written.text)
    if not args.dry_run:
        _suggest(outcome)
    return WOULD_CHANGE if args.exit_code and outcome.changes else 0


def _suggest(outcome: Outcome) -> None:
    """Print the next commands if stdout is a terminal. They go to stderr, because stdout has the manifest."""
    if is_on_terminal():
        for line in outcome.next_commands:
            remark(f"next: {line}")


def _outcome(source: str, text: str, written: ChangedStream, namespace: str | None) -> Outcome:
    """Return the outcome. `before` and `after` are the manifest, because the step applies nothing."""
    titles = written.workloads if written.edits else ()
    changes = tuple(f"add the sidecar to {title}" for title in titles)
    next_commands = (
        command("kubectl", "apply", namespace=namespace, filename="-"),
        command("irsa-sidecar", "doctor", pod=f"{namespace or 'NAMESPACE'}/POD"),
    )
    return Outcome("pod", source, changes, (), {"manifest": text}, {"manifest": written.text}, next_commands)


def shown_difference(text: str, written: ChangedStream, source: str) -> str:
    """Return the unified diff for a terminal."""
    return printable(unified_diff(text, written.edits, source, f"{source} with irsa-sidecar"), keep="\n\t")


def read_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """
    Return the settings in the flags, which apply to every Pod.

    Raises ConfigurationError if a flag is invalid.
    """
    return flags.read_settings(args, environ)._replace(
        is_native=not args.no_native_sidecar,
        role_arn=parse_role_arn("--role-arn", args.role_arn) if args.role_arn else None,
    )


def read_options(args: argparse.Namespace) -> Options:
    """
    Return the options in the flags, which apply to the manifest.

    Raises ConfigurationError if a flag is invalid.
    """
    namespace = args.namespace or ""
    if args.namespace is not None and not re.fullmatch(NAMESPACE, namespace):
        raise ConfigurationError(
            f"--namespace is {namespace[:100]!r}: it is not a namespace's name",
            fix="Use a name that `kubectl get namespaces` shows",
            setting="--namespace",
        )
    return Options(namespace, tuple(template_path("--template-path", path) for path in args.template_path))


@contextmanager
def without_cycle_collection() -> Iterator[None]:
    """
    Disable the garbage collector during the block.

    Documents contain no reference cycles, and each collection would take longer than the previous one.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def show_pods_done(done: int, total: int) -> None:
    """Show on a terminal how many Pods are finished, and clear that line at the end."""
    if total >= _MANY_PODS and (done == total or done % (total // 100 or 1) == 0):
        show_progress(f"{done} of {total} Pods" if done < total else "")


def _read(path: str) -> str:
    fix = "Use the path of a manifest, or - for stdin"
    try:
        return read_named_file("FILE", path, limit=MAX_BYTES, fix=fix).decode()
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{path} is not UTF-8 text (byte {exc.start})", fix="Use a manifest in UTF-8", setting=path
        ) from exc
