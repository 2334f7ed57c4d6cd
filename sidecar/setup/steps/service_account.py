"""
Have a ServiceAccount name the IAM role of its Pods: make it, or change the annotations of the one that is there.

The cluster is that of the kubeconfig's current context, or of --context. Labels and annotations of others stay. With
--dry-run the API server is asked too, which says whether it would allow it.
"""

import argparse
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
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.printable import printable
from sidecar.role import parse_role_arn, parse_whole_number
from sidecar.setup.outcome import Outcome, add_outcome_arguments, check_outcome_arguments, command, finish
from sidecar.setup.steps.pod import difference

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes

EXAMPLE = """\
examples:
  irsa-sidecar setup service-account --namespace shop --name cart --role-arn arn:aws:iam::111122223333:role/cart
  irsa-sidecar setup service-account --name cart --role-arn arn:aws:iam::111122223333:role/cart --output yaml"""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="of the ServiceAccount")
    parser.add_argument("--namespace", help="[the context's]")
    parser.add_argument("--role-arn", required=True, metavar="ARN", help="the role of its Pods")
    parser.add_argument("--audience", help="of its tokens, where it is not sts.amazonaws.com")
    parser.add_argument("--token-expiration", metavar="SECONDS", help="of its tokens, where it is not 86400")
    parser.add_argument("--context", help="of the kubeconfig [the current one]")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    form = parser.add_mutually_exclusive_group()
    add_outcome_arguments(parser, form)
    form.add_argument("--output", choices=("yaml",), help="print it instead, to be kept elsewhere; no cluster is asked")


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    annotations = read_annotations(args)
    _check("--name", args.name, _NAME)
    if args.namespace is not None:
        _check("--namespace", args.namespace, _NAMESPACE)
    if args.output:
        sys.stdout.write(as_yaml(wanted(None, args.namespace or "default", args.name, annotations)))
        return 0
    with open_named_cluster(os.environ, args.context, "irsa-sidecar setup service-account") as kubernetes:
        return _carry_out(kubernetes, args.name, annotations, args)


def read_annotations(args: argparse.Namespace) -> dict[str, str]:
    """What the flags ask for. Raises ConfigurationError."""
    annotations = {EKS_ROLE_ARN: parse_role_arn("--role-arn", args.role_arn)}
    if args.audience:
        annotations[EKS_AUDIENCE] = args.audience
    if args.token_expiration:
        low, high = MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS
        seconds = parse_whole_number("--token-expiration", args.token_expiration, low, high)
        annotations[EKS_TOKEN_EXPIRATION] = str(seconds)
    return annotations


def wanted(there: Document | None, namespace: str, name: str, annotations: Mapping[str, str]) -> Document:
    """The ServiceAccount as it shall be: what is there, with these annotations."""
    document = there or {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }
    metadata = document["metadata"]
    return {**document, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **annotations}}}


def as_yaml(document: Document) -> str:
    """For people: without what the API server keeps for itself."""
    kept = ("name", "namespace", "labels", "annotations")
    metadata = {key: document["metadata"][key] for key in kept if document["metadata"].get(key)}
    shown: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    return yaml.safe_dump(shown, sort_keys=False)


def _carry_out(kubernetes: "Kubernetes", name: str, annotations: Mapping[str, str], args: argparse.Namespace) -> int:
    namespace = args.namespace or kubernetes.namespace
    collection = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    there = kubernetes.get(f"{collection}/{name}")
    document = wanted(there, namespace, name, annotations)
    title = f"ServiceAccount {namespace}/{name} (context {kubernetes.context})"
    outcome = _outcome(title, namespace, there, document)
    if not args.json:
        _show(outcome, there, document)
    if outcome.changes:
        _remark_on_owner(there)
        if there is None:
            kubernetes.create(collection, document, dry_run=args.dry_run)
        else:
            change = {"metadata": {"annotations": dict(annotations)}}
            kubernetes.patch(f"{collection}/{name}", change, dry_run=args.dry_run)
        if not args.json:
            done = outcome.changes[0]
            print(f"would {done}; the API server would allow it" if args.dry_run else f"done: {done}")
    return finish(outcome, args)


def _outcome(title: str, namespace: str, there: Document | None, document: Document) -> Outcome:
    is_new = there is None
    changes = () if there == document else ("create it" if is_new else "change its annotations",)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "REGION"
    pods = command(*("irsa-sidecar", "setup", "pod", "app.yaml"), image="IMAGE", region=region, namespace=namespace)
    before = None if there is None else yaml.safe_load(as_yaml(there))
    return Outcome("service-account", title, changes, (), before, yaml.safe_load(as_yaml(document)), (pods,))


def _show(outcome: Outcome, there: Document | None, document: Document) -> None:
    if not outcome.changes:
        print(printable(f"{outcome.resource}: nothing to change"))
        return
    print(printable(f"{outcome.resource}: {'to be created' if there is None else 'to be changed'}"))
    changes = difference("now", as_yaml(there) if there else "", as_yaml(document), "then")
    sys.stdout.write(printable(changes, keep="\n\t"))


def _remark_on_owner(there: Document | None) -> None:
    owner = ((there or {}).get("metadata", {}).get("labels") or {}).get("app.kubernetes.io/managed-by")
    if owner:
        warn(f"It is managed by {owner}, which may take the change back: have it set there what --output yaml prints.")


def _check(setting: str, text: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(text):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}: give a name of lower-case letters, digits and -, as cart."
        )
