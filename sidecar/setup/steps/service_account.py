"""
Annotate a ServiceAccount with the IAM role of its Pods. Create the ServiceAccount if it does not exist.

The cluster is the cluster of the kubeconfig's current context, or of --context. Other labels and annotations are not
changed. With --dry-run, the API server checks whether it would allow the change.
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from sidecar.console import warn
from sidecar.errors import ConfigurationError
from sidecar.injection.names import EKS_AUDIENCE, EKS_ROLE_ARN, EKS_TOKEN_EXPIRATION
from sidecar.injection.options import (
    MAX_EXPIRATION_SECONDS,
    MIN_EXPIRATION_SECONDS,
)
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.names import NAME, NAMESPACE
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.printable import printable
from sidecar.role import parse_role_arn, parse_whole_number
from sidecar.setup.outcome import Outcome, add_outcome_arguments, check_outcome_arguments, command, finish

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

EXAMPLE = """\
examples:
  irsa-sidecar setup service-account --namespace shop --name cart --role-arn arn:aws:iam::111122223333:role/cart
  irsa-sidecar setup service-account --name cart --role-arn arn:aws:iam::111122223333:role/cart --output yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the ServiceAccount's name")
    parser.add_argument("--namespace", help="the ServiceAccount's namespace [the namespace of the context]")
    parser.add_argument("--role-arn", required=True, metavar="ARN", help="the role of the ServiceAccount's Pods")
    parser.add_argument("--audience", help="the audience of the Pods' tokens, if it is not sts.amazonaws.com")
    parser.add_argument(
        "--token-expiration", metavar="SECONDS", help="the lifetime of the Pods' tokens, if it is not 86400"
    )
    parser.add_argument("--context", help="the kubeconfig context [the current context]")
    parser.add_argument("--dry-run", action="store_true", help="show the changes without making them")
    form = parser.add_mutually_exclusive_group()
    add_outcome_arguments(parser, form)
    form.add_argument("--output", choices=("yaml",), help="print the ServiceAccount, and call no cluster")


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    annotations = read_annotations(args)
    _check("--name", args.name, NAME)
    if args.namespace is not None:
        _check("--namespace", args.namespace, NAMESPACE)
    if args.output:
        sys.stdout.write(as_yaml(annotated(None, args.namespace or "default", args.name, annotations)))
        return 0
    with open_named_cluster(os.environ, args.context, "irsa-sidecar setup service-account") as kubernetes:
        return _carry_out(kubernetes, args.name, annotations, args)


def read_annotations(args: argparse.Namespace) -> dict[str, str]:
    """
    Return the annotations in the flags.

    Raises ConfigurationError if a flag is invalid.
    """
    annotations = {EKS_ROLE_ARN: parse_role_arn("--role-arn", args.role_arn)}
    if args.audience:
        annotations[EKS_AUDIENCE] = args.audience
    if args.token_expiration:
        low, high = MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS
        seconds = parse_whole_number("--token-expiration", args.token_expiration, low, high)
        annotations[EKS_TOKEN_EXPIRATION] = str(seconds)
    return annotations


def annotated(existing: Document | None, namespace: str, name: str, annotations: Mapping[str, str]) -> Document:
    """Return the existing ServiceAccount, or a new one, with these annotations."""
    document = existing or {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }
    metadata = document["metadata"]
    return {**document, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **annotations}}}


def as_yaml(document: Document) -> str:
    """Return the name, namespace, labels and annotations of the ServiceAccount as YAML."""
    kept = ("name", "namespace", "labels", "annotations")
    metadata = {key: document["metadata"][key] for key in kept if document["metadata"].get(key)}
    shown: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    return yaml.safe_dump(shown, sort_keys=False)


def _carry_out(kubernetes: "Kubernetes", name: str, annotations: Mapping[str, str], args: argparse.Namespace) -> int:
    namespace = args.namespace or kubernetes.namespace
    collection = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    existing = kubernetes.get(f"{collection}/{name}")
    document = annotated(existing, namespace, name, annotations)
    title = f"ServiceAccount {namespace}/{name} (context {kubernetes.context})"
    outcome = _outcome(title, namespace, existing, document)
    if not args.json:
        _show(outcome, existing, document)
    if outcome.changes:
        _remark_on_owner(existing)
        if existing is None:
            kubernetes.create(collection, document, dry_run=args.dry_run)
        else:
            merge_patch = {"metadata": {"annotations": dict(annotations)}}
            kubernetes.patch(f"{collection}/{name}", merge_patch, dry_run=args.dry_run)
        if not args.json:
            change = outcome.changes[0]
            print(f"would {change}; the API server would allow it" if args.dry_run else f"done: {change}")
    return finish(outcome, args)


def _outcome(title: str, namespace: str, existing: Document | None, document: Document) -> Outcome:
    is_new = existing is None
    changes = () if existing == document else ("create it" if is_new else "change its annotations",)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "REGION"
    pods = command(*("irsa-sidecar", "setup", "pod", "app.yaml"), image="IMAGE", region=region, namespace=namespace)
    before = None if existing is None else yaml.safe_load(as_yaml(existing))
    return Outcome("service-account", title, changes, (), before, yaml.safe_load(as_yaml(document)), (pods,))


def _show(outcome: Outcome, existing: Document | None, document: Document) -> None:
    if not outcome.changes:
        print(printable(f"{outcome.resource}: nothing to change"))
        return
    print(printable(f"{outcome.resource}: {'to be created' if existing is None else 'to be changed'}"))
    changes = _difference(as_yaml(existing) if existing else "", as_yaml(document))
    sys.stdout.write(printable(changes, keep="\n\t"))


def _difference(before: str, after: str) -> str:
    """Return a unified diff of both texts, or an empty text if they are equal."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, "now", "then"))


def _remark_on_owner(existing: Document | None) -> None:
    owner = ((existing or {}).get("metadata", {}).get("labels") or {}).get("app.kubernetes.io/managed-by")
    if owner:
        warn(
            f"{owner} manages the ServiceAccount and may revert the change. "
            "Put the output of --output yaml into its source."
        )


def _check(setting: str, text: str, pattern: str) -> None:
    if not re.fullmatch(pattern, text):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}, which is not a valid name",
            fix="Use a name of lower-case letters, digits and -, such as cart",
            setting=setting,
        )
