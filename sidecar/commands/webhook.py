"""
Serve the mutating admission webhook, which injects the sidecar into Pods with the label irsa-sidecar.io/inject: "true".

Exits with 0 on SIGTERM or SIGINT. Without a mounted certificate, the webhook creates a certificate, stores it in a
Secret, and writes the certificate's authority into the MutatingWebhookConfiguration. docs/webhook.md describes the
permissions that the webhook needs in the cluster, and docs/injection.md the changes to Pods.
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
from sidecar.role import parse_whole_number
from sidecar.startup.early_signals import end_at_once_on_signals

EXAMPLE = """\
example, in the cluster:
  irsa-sidecar webhook --image registry.example.com/irsa-sidecar:0.1.0 --region eu-west-1"""

MAX_DRAIN_SECONDS = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_arguments(parser)
    parser.add_argument(
        "--native-sidecars",
        choices=NATIVE_CHOICES,
        default="auto",
        help="kind of the sidecars; never is for clusters with a node older than Kubernetes 1.29 "
        "[auto, which follows the API server's version]",
    )
    parser.add_argument(
        "--listen", default=":8443", metavar="HOST:PORT", help="address for the API server, over TLS [:8443]"
    )
    parser.add_argument(
        "--admin-listen", default=":8080", metavar="HOST:PORT", help="address for probes and metrics [:8080]"
    )
    parser.add_argument(
        "--configuration",
        default="irsa-sidecar",
        metavar="NAME",
        help="name of the MutatingWebhookConfiguration [irsa-sidecar]",
    )
    parser.add_argument(
        "--secret",
        default="irsa-sidecar-webhook",
        metavar="NAME",
        help="Secret for the certificate, in the webhook's namespace [irsa-sidecar-webhook]",
    )
    parser.add_argument(
        "--certificate-file", metavar="FILE", help="use a mounted certificate, for example from cert-manager"
    )
    parser.add_argument("--key-file", metavar="FILE", help="key of the mounted certificate")
    parser.add_argument(
        "--context", metavar="NAME", help="context of the kubeconfig, if the webhook runs outside of a cluster"
    )
    parser.add_argument("--drain-seconds", default="10", metavar="SECONDS", help="time to serve after SIGTERM [10]")
    parser.add_argument(
        "--log-format", choices=("json", "console"), help="format of the log [json unless stderr is a terminal]"
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="level of the log [info]"
    )


def main(args: argparse.Namespace) -> int:
    settings = flags.read_settings(args, os.environ)
    if bool(args.certificate_file) != bool(args.key_file):
        raise ConfigurationError(
            "--certificate-file and --key-file must be set together",
            fix="Set both or neither",
            setting="--certificate-file",
        )
    drain_seconds = parse_whole_number("--drain-seconds", args.drain_seconds, 0, MAX_DRAIN_SECONDS)
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
