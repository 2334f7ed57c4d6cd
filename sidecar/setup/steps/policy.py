"""
Write the policies with which the API server itself adds the sidecar to Pods, without a webhook.

The cluster needs Kubernetes 1.36 or newer. Apply the output with `kubectl apply --server-side`. The policies support
only one role for each Pod, and only native sidecars. They reject a Pod that needs more, and the message suggests the
webhook. The role comes from the Pod's annotation irsa-sidecar.io/role-arn, or from the Pod's ServiceAccount.
"""

import argparse
import os
import sys

from sidecar.console import is_on_terminal, remark
from sidecar.injection import flags
from sidecar.policy.manifest import manifest
from sidecar.setup.outcome import command

EXAMPLE = """\
examples:
  irsa-sidecar setup policy --image example.com/irsa-sidecar:0.1.0 --region eu-west-1 | kubectl apply --server-side -f -
  irsa-sidecar setup policy --image irsa-sidecar:0.1.0 --region eu-west-1 --env HTTPS_PROXY=http://proxy:3128"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    sys.stdout.write(manifest(flags.read_settings(args, os.environ)))
    if is_on_terminal():
        remark(f"next: {command('kubectl', 'apply', '--server-side', filename='-')}")
    return 0
