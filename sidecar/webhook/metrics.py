"""Count reviews, lookups and Events, and write the webhook's metrics for Prometheus."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from sidecar import __version__
from sidecar.metrics import Family, Histogram, Sample, exposition, histogram_family
from sidecar.serving.connection_budget import Reason
from sidecar.webhook.certificate.issue import Validity
from sidecar.webhook.review import Outcome

REVIEW_SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

Lookup = Literal["cached", "fetched", "failed", "rejected"]
"""The outcome of a search for a Pod's ServiceAccount. It is "rejected" if too many reviews wait for the API server."""

Sent = Literal["sent", "failed", "dropped"]
"""The outcome of an attempt to send an Event."""


class WebhookMetrics:
    """The counters of one process. `certificate` is the validity of the active certificate, or None without one."""

    def __init__(self) -> None:
        self.reviews = dict.fromkeys(Outcome, 0)
        self.review_seconds = Histogram(REVIEW_SECONDS_BUCKETS)
        self.lookups: Counter[Lookup] = Counter()
        self.watch_restarts = 0
        self.events: Counter[Sent] = Counter()
        self.certificate: Validity | None = None

    def count_lookup(self, outcome: Lookup) -> None:
        self.lookups[outcome] += 1

    def count_event(self, outcome: Sent) -> None:
        self.events[outcome] += 1

    def exposition(
        self, *, is_ready: bool, is_watching: bool, accounts: int, dropped_lines: int, closed: Mapping[Reason, int]
    ) -> bytes:
        """
        Return the body of a scrape. Each counter starts at 0, because Prometheus's `rate` needs a first value.

        `closed` is the number of connections that were closed for each limit.
        """
        validity = self.certificate
        return exposition([
            Family("irsa_sidecar_webhook_build_info", "gauge", "The running version, as a label.",
                   [Sample({"version": __version__}, 1)]),
            Family("irsa_sidecar_webhook_ready", "gauge",
                   "1 while the webhook can respond to reviews, as /readyz reports, else 0.",
                   [Sample({}, int(is_ready))]),
            Family("irsa_sidecar_webhook_reviews_total", "counter",
                   "Reviews, by outcome: injected, denied, skipped, or failed. "
                   "A review fails if a temporary or internal error denies the Pod.",
                   [Sample({"outcome": outcome.value}, count) for outcome, count in self.reviews.items()]),
            histogram_family("irsa_sidecar_webhook_review_duration_seconds", "Duration of a review.",
                             self.review_seconds),
            Family("irsa_sidecar_webhook_watch_active", "gauge",
                   "1 while a watch follows the ServiceAccounts, else 0. Without a watch, the webhook "
                   "fetches each ServiceAccount.",
                   [Sample({}, int(is_watching))]),
            Family("irsa_sidecar_webhook_service_accounts", "gauge", "ServiceAccounts in the cache of the watch.",
                   [Sample({}, accounts)]),
            Family("irsa_sidecar_webhook_service_account_lookups_total", "counter",
                   "Lookups of a Pod's ServiceAccount, by outcome: cached, fetched, failed, or rejected because too "
                   "many Pods were waiting for the API server.",
                   [Sample({"outcome": outcome}, self.lookups[outcome]) for outcome in get_args(Lookup)]),
            Family("irsa_sidecar_webhook_watch_restarts_total", "counter",
                   "Restarts of the watch of ServiceAccounts, after the connection broke or the resource "
                   "version was too old.",
                   [Sample({}, self.watch_restarts)]),
            Family("irsa_sidecar_webhook_events_total", "counter",
                   "Kubernetes Events, by outcome: sent, failed or dropped.",
                   [Sample({"outcome": outcome}, self.events[outcome]) for outcome in get_args(Sent)]),
            Family("irsa_sidecar_webhook_certificate_not_before_timestamp_seconds", "gauge",
                   "The time when the active certificate becomes valid, in Unix time.",
                   [] if validity is None else [Sample({}, validity.begins_at.timestamp())]),
            Family("irsa_sidecar_webhook_certificate_expiration_timestamp_seconds", "gauge",
                   "The time when the active certificate expires, in Unix time.",
                   [] if validity is None else [Sample({}, validity.expires_at.timestamp())]),
            Family("irsa_sidecar_webhook_connections_closed_total", "counter",
                   "Connections that the webhook closed because of a limit, by reason: connections, bytes, or tls. "
                   "The reason is tls if a client's TLS messages were too long or too many.",
                   [Sample({"reason": reason}, closed.get(reason, 0)) for reason in get_args(Reason)]),
            Family("irsa_sidecar_log_lines_dropped_total", "counter",
                   "Log lines that were dropped because stderr did not accept them at once.",
                   [Sample({}, dropped_lines)]),
        ])  # fmt: skip
