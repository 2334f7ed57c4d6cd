"""
Inject the sidecar into Pods that ask for it by the label irsa-sidecar.io/inject: "true": a mutating admission webhook.

Ends with 0 on SIGTERM or SIGINT. Its certificate is its own, kept in a Secret and trusted by the
MutatingWebhookConfiguration, unless one is mounted. docs/injection.md says what a Pod is given, and what rights this
needs in the cluster.
"""

import argparse
import os

import trio

from sidecar.addresses import parse_address
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra
from sidecar.injection import flags
from sidecar.injection.settings import NATIVE_CHOICES
from sidecar.log import default_format
from sidecar.role import check_whole_number
from sidecar.startup.early_signals import end_at_once_on_signals

EXAMPLE = """\
example, in the cluster:
  irsa-sidecar webhook --image registry.example.com/irsa-sidecar:1.0 --region eu-west-1"""

MAX_DRAIN_SECONDS = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_arguments(parser)
    parser.add_argument(
        "--native-sidecars",
        choices=NATIVE_CHOICES,
        default="auto",
        help="never: while there are nodes before Kubernetes 1.29 [auto: by the API server's version]",
    )
    parser.add_argument("--listen", default=":8443", metavar="HOST:PORT", help="for the API server, over TLS [:8443]")
    parser.add_argument("--admin-listen", default=":8080", metavar="HOST:PORT", help="probes and metrics [:8080]")
    parser.add_argument(
        "--configuration",
        default="irsa-sidecar",
        metavar="NAME",
        help="the MutatingWebhookConfiguration [irsa-sidecar]",
    )
    parser.add_argument(
        "--secret",
        default="irsa-sidecar-webhook",
        metavar="NAME",
        help="where the certificate is kept, in its own namespace",
    )
    parser.add_argument("--certificate-file", metavar="FILE", help="a mounted certificate instead, as cert-manager's")
    parser.add_argument("--key-file", metavar="FILE", help="its key")
    parser.add_argument("--context", metavar="NAME", help="of a kubeconfig, outside of a cluster")
    parser.add_argument(
        "--drain-seconds", default="10", metavar="SECONDS", help="how long to go on answering after SIGTERM [10]"
    )
    parser.add_argument("--log-format", choices=("json", "console"), help="[json unless stderr is a terminal]")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="[info]")


def main(args: argparse.Namespace) -> int:
    settings = flags.read_settings(args, os.environ)
    if bool(args.certificate_file) != bool(args.key_file):
        raise ConfigurationError("--certificate-file and --key-file belong together: give both or neither.")
    drain_seconds = check_whole_number("--drain-seconds", args.drain_seconds, 0, MAX_DRAIN_SECONDS)
    listen, admin_listen = parse_address("--listen", args.listen), parse_address("--admin-listen", args.admin_listen)
    end_at_once_on_signals()
    process = import_extra("sidecar.webhook.run", "irsa-sidecar webhook", "webhook")
    options = process.Options(
        settings=settings,
        native_sidecars=args.native_sidecars,
        listen=listen,
        admin_listen=admin_listen,
        context=args.context,
        configuration=args.configuration,
        secret=args.secret,
        mounted=(args.certificate_file, args.key_file) if args.certificate_file else None,
        drain_seconds=drain_seconds,
        log_format=args.log_format or default_format(),
        log_level=args.log_level,
    )
    trio.run(process.run, options)
    return 0
