"""
Run the webhook as a process, and stop it in order.

After the first signal the webhook is not ready but still responds, until the Service's endpoints have changed. Without
a response to its review, a Pod is not created. After the signal, each response is the last one of its connection.
"""

import os
import random
import signal
import socket
import time
from typing import NamedTuple

import trio

from sidecar import __version__
from sidecar.injection.settings import Settings
from sidecar.kubernetes.async_client import KubernetesApi, open_api
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.log import Logger, make_logger
from sidecar.serving.http_server import BACKLOG
from sidecar.serving.listen import listen
from sidecar.webhook.certificate.managed import OwnCertificate
from sidecar.webhook.certificate.mounted import MountedCertificate
from sidecar.webhook.events import Events
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.service import PATH, Service
from sidecar.webhook.service_accounts import ServiceAccounts
from sidecar.webhook.tls import Tls


class Options(NamedTuple):
    """
    The options of the command line.

    `native_sidecars` is one of NATIVE_CHOICES. `mounted` names the files of a certificate and its key, or is None if
    the webhook issues its own.
    """

    settings: Settings
    native_sidecars: str
    listen: tuple[str, int]
    admin_listen: tuple[str, int]
    context: str | None
    configuration: str
    secret: str
    mounted: tuple[str, str] | None
    drain_seconds: float
    log_format: str
    log_level: str


async def run(options: Options) -> None:
    """
    Serve until a signal.

    Raises ConfigurationError if the cluster's configuration, the mounted certificate or an address cannot be used.
    """
    log, writer = make_logger(options.log_format, options.log_level)
    async with open_api(find_cluster(os.environ, options.context)) as api:
        service = make_service(options, api, log)
        service.dropped_lines = lambda: writer.dropped
        listeners, admin_listeners = open_listeners(options)
        async with trio.open_nursery() as background:
            await background.start(_stop_on_signal, service, options.drain_seconds)
            async with trio.open_nursery() as serving:
                await serving.start(service.serve, listeners, admin_listeners)
                ports = [each.getsockname()[1] for each in (listeners[0], admin_listeners[0])]
                log.info("started", version=__version__, image=options.settings.image, path=PATH, ports=ports)
            background.cancel_scope.cancel()
    log.info("stopped")


def open_listeners(options: Options) -> tuple[list[socket.socket], list[socket.socket]]:
    """
    Return the listening sockets for reviews, and those for probes and metrics.

    Raises ConfigurationError if an address cannot be used.
    """
    return listen("--listen", options.listen, BACKLOG), listen("--admin-listen", options.admin_listen, BACKLOG)


def make_service(options: Options, api: KubernetesApi, log: Logger) -> Service:
    """
    Create the service and its parts from the options.

    Raises ConfigurationError if the mounted certificate cannot be used.
    """
    metrics, tls = WebhookMetrics(), Tls()
    return Service(
        api=api,
        settings=options.settings,
        native_sidecars=options.native_sidecars,
        accounts=ServiceAccounts(api, log, metrics),
        events=Events(api, log, metrics, time.time, socket.gethostname()),
        tls=tls,
        certificate=_certificate(options, api, tls, log, metrics),
        metrics=metrics,
        log=log,
        jitter=random.random,
    )


def _certificate(
    options: Options, api: KubernetesApi, tls: Tls, log: Logger, metrics: WebhookMetrics
) -> OwnCertificate | MountedCertificate:
    if options.mounted is not None:
        return MountedCertificate(*options.mounted, tls, log, metrics)
    return OwnCertificate(
        api,
        configuration=options.configuration,
        secret=options.secret,
        tls=tls,
        log=log,
        metrics=metrics,
        jitter=random.random,
    )


async def _stop_on_signal(
    service: Service, drain_seconds: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Start to drain after the first signal, and stop when the drain has ended or after a second signal."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        number = await anext(signals)
        service.is_stopping = True
        service.log.info("stopping", signal=signal.Signals(number).name, drain_seconds=drain_seconds)
        with trio.move_on_after(drain_seconds):
            await anext(signals)
        service.stop.set()
        await trio.sleep_forever()
