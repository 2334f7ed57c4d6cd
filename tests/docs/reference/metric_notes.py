"""Describe the metrics' labels, and the use of each metric. Tests compare the descriptions with a scrape."""

from collections.abc import Mapping

LABELS: Mapping[str, str] = {
    "le": "The upper bound of the bucket, in seconds.",
    "outcome": "The result. The description of each metric lists the values.",
    "reason": "The limit for which the webhook closed a connection.",
    "region": "The region of the STS endpoint.",
    "role": "The name of the role in the roles file. Without a roles file, the name is `default`.",
    "status": "The HTTP status. 499 means that the client disconnected before it had the whole response.",
    "task": "The name of the background task.",
    "version": "The version of irsa-sidecar.",
}
"""The meaning of each label. Prometheus adds other labels, such as `namespace` and `pod`."""

USES: Mapping[str, str] = {
    "irsa_sidecar_build_info": "Compare the versions in a cluster during an upgrade.",
    "irsa_sidecar_credentials_available": "Alert on 0. The application gets no credentials.",
    "irsa_sidecar_credentials_expiration_timestamp_seconds": "Alert if less than 300 s are left.",
    "irsa_sidecar_session_duration_seconds": "Compare the value with the maximum session duration of the role.",
    "irsa_sidecar_session_token_bytes": "Check the metric before you add session tags or policies.",
    "irsa_sidecar_session_token_utilization_ratio": "Alert above 0.9. STS rejects a request whose token would be too "
    "large.",
    "irsa_sidecar_token_expiration_timestamp_seconds": (
        "Alert on a time in the past. Such a time means that the kubelet no longer renews the token."
    ),
    "irsa_sidecar_clock_skew_seconds": "Alert above 60 s in either direction. AWS rejects signatures that are 300 s "
    "off.",
    "irsa_sidecar_refreshes_total": "Alert on failures without a success in 20 minutes. `outcome` has the cause.",
    "irsa_sidecar_sts_request_duration_seconds": "Check the 99th percentile. Above 2 s, a proxy or an endpoint is "
    "slow.",
    "irsa_sidecar_sts_region_active": "Check the metric after `irsa_sidecar_sts_endpoint_changes_total` increases.",
    "irsa_sidecar_sts_endpoint_changes_total": "Alert on an increase, with the severity info.",
    "irsa_sidecar_configuration_reloads_total": "Check the metric after you change the roles file.",
    "irsa_sidecar_configuration_last_reload_successful": "Alert on 0. If the daemon restarts in this "
    "state, it does not start.",
    "irsa_sidecar_ca_bundle_last_reload_successful": "Alert on 0. If the daemon restarts in this "
    "state, it cannot connect to STS.",
    "irsa_sidecar_requests_total": "Alert on many responses with 401 or 403. A 503 means that the daemon has no valid "
    "credentials or too many connections.",
    "irsa_sidecar_imds_requests_total": "Check the status 401. A client that supports only version 1 of the metadata "
    "service gets this status.",
    "irsa_sidecar_credentials_file_writes_total": "Alert on failures without a success.",
    "irsa_sidecar_state_writes_total": "Alert on failures without a success.",
    "irsa_sidecar_task_failures_total": "Alert on any increase.",
    "irsa_sidecar_clock_steps_total": "Check the metric if AWS rejects signatures.",
    "irsa_sidecar_log_lines_dropped_total": "Alert on an increase if you need the log as an audit trail.",
    "irsa_sidecar_webhook_build_info": "Compare the versions in a cluster during an upgrade.",
    "irsa_sidecar_webhook_ready": "Alert if no replica has 1. The API server then rejects Pods that need a sidecar.",
    "irsa_sidecar_webhook_reviews_total": "Alert on `failed`, and on repeated `denied`.",
    "irsa_sidecar_webhook_review_duration_seconds": "Alert if the 90th percentile is above 1 s. The API server waits "
    "10 s.",
    "irsa_sidecar_webhook_watch_active": "Check the metric if reviews are slow.",
    "irsa_sidecar_webhook_service_accounts": "Compare the value with the number of ServiceAccounts in the cluster.",
    "irsa_sidecar_webhook_service_account_lookups_total": "Check `fetched` and `failed` if reviews are slow. "
    "If `rejected` increases, somebody attacks the webhook, or the API server is slow.",
    "irsa_sidecar_webhook_watch_restarts_total": "Check whether the metric increases without a restart of the API "
    "server.",
    "irsa_sidecar_webhook_events_total": "Check `failed` if Events are missing.",
    "irsa_sidecar_webhook_connections_closed_total": "If the metric increases, somebody attacks the webhook or scans "
    "its port.",
    "irsa_sidecar_webhook_certificate_not_before_timestamp_seconds": "Together with "
    "`irsa_sidecar_webhook_certificate_expiration_timestamp_seconds`, alert if only a share of the certificate's "
    "lifetime remains.",
    "irsa_sidecar_webhook_certificate_expiration_timestamp_seconds": "Alert if less than a quarter of the lifetime is "
    "left.",
}
"""The use of each metric: the alert on it, or when to check it."""
