"""Describe each log event: meaning, required action and fields. Tests compare them with the calls in the code."""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.errors import NextStep
from sidecar.refresh.refresher import LARGE_SKEW_SECONDS, REMINDER_SECONDS
from sidecar.serving.audit import LINES_A_SECOND
from tests.docs.reference.markdown import codes


class EventNote(NamedTuple):
    """
    The meaning of one event.

    `action` is empty if the event needs no action. `level` replaces the level at the call, for an event whose level
    varies. `others` are fields that the call adds from a mapping.
    """

    name: str
    meaning: str
    action: str = ""
    level: str = ""
    others: tuple[str, ...] = ()


BUG = "Report the error as a bug, with `exception` and `stack`."

TOPICS: Mapping[str, tuple[EventNote, ...]] = {
    "Start and stop": (
        EventNote(
            "started",
            "The process accepts requests. The daemon logs one line per role, and the webhook one line.",
        ),
        EventNote("imds_started", "The daemon also emulates EC2's metadata service, at `url`."),
        EventNote("stopping", "The process got a signal, and continues to serve for `drain_seconds`."),
        EventNote("stopped", "The process ended without an error."),
        EventNote(
            "hardening_failed",
            "The kernel or a sandbox rejected a measure that protects the process.",
            "Check whether your sandbox can allow the measures in `failed`. The other measures are active.",
        ),
        EventNote(
            "lean_imports_skipped",
            "The daemon imported whole packages, because this version of irsa-sidecar was not checked "
            "with the installed versions.",
            "To save memory, install the locked versions. The daemon also works with other versions.",
        ),
        EventNote(
            "unknown_setting_ignored",
            "A variable begins with `IRSA_SIDECAR_` but is not a setting.",
            "Correct the name of the variable, or remove the variable. `reason` shows the setting with the most "
            "similar name.",
        ),
        EventNote(
            "suspicious_setting_found",
            "A setting is valid, but its effect is probably not intended.",
            "Follow the advice in `reason`, or keep the setting if its effect is intended.",
        ),
    ),
    "Credentials": (
        EventNote("credentials_refreshed", "STS returned new credentials, and the daemon serves them."),
        EventNote(
            "older_credentials_ignored",
            "STS returned credentials that expire before the served credentials, so the daemon ignores them.",
        ),
        EventNote(
            "refresh_failed",
            "The daemon got no new credentials. It serves valid credentials until `still_serving_until`.",
            "Follow the advice in `reason`. The daemon always retries. "
            f"It logs an unchanged error again after {REMINDER_SECONDS / 60:.0f} minutes.",
            others=("step",),
        ),
        EventNote(
            "max_duration_found",
            "With the duration `max`, STS granted a session of another length than before.",
        ),
        EventNote("credentials_saved", "The daemon wrote new credentials to the state directory."),
        EventNote("credentials_restored", "The daemon serves the credentials that an earlier process saved."),
        EventNote(
            "saved_credentials_ignored",
            "The saved credentials have expired, belong to another role or cannot be read, so the daemon ignores them.",
            "No action is necessary, unless the event appears after every restart. Then find the "
            "process that writes to the state directory.",
            others=("exception", "stack"),
        ),
    ),
    "Token and clock": (
        EventNote("token_renewed", "The token file has a new token."),
        EventNote(
            "token_claims_suspicious",
            "STS will probably reject the token: it has expired, has another audience, or never expires.",
            "Follow the advice in `reason`, and check the projected volume and the kubelet.",
        ),
        EventNote(
            "clock_stepped",
            "The wall clock jumped by `seconds`, because it was set or the machine slept. The daemon still "
            "serves correct credentials.",
            "If the event appears often, check the node's time synchronisation.",
        ),
        EventNote(
            "clock_skew_detected",
            f"This machine's clock differs from the clock of STS by more than {LARGE_SKEW_SECONDS:.0f} seconds.",
            "Correct the node's time synchronisation. AWS rejects a request if the time of its "
            "signature differs by 300 seconds.",
        ),
    ),
    "STS": (
        EventNote(
            "sts_endpoint_changed",
            "The daemon now calls the STS of another region, or of the first region again.",
            "Check the network path to the STS of the first region.",
            level="`warning`, or `info` for the return to the first region",
            others=("from", "to"),
        ),
        EventNote("ca_bundle_reloaded", "The file of `AWS_CA_BUNDLE` changed, and the daemon uses its new content."),
        EventNote(
            "ca_bundle_rejected",
            "The file of `AWS_CA_BUNDLE` changed and cannot be used. The previous authorities stay active.",
            "Put PEM certificates into the file. A new process could not start with this file.",
        ),
    ),
    "Clients": (
        EventNote(
            "credentials_served",
            f"A client got credentials. The daemon logs at most {LINES_A_SECOND} of these lines per second. "
            "For further responses in the same second, it logs one line for each role and access key, with the "
            "number of these responses as `count`.",
            level="`info`",
            others=("role_name", "access_key_id", "expiration", "peer", "uid", "pid", "count", "endpoint"),
        ),
        EventNote(
            "request_denied",
            "A client did not get credentials, because its secret is missing or wrong, or because its "
            "user is not allowed.",
            "Configure the client with the secret or the user that the role requires. If the client "
            "is unknown, find its process by `pid`.",
            level="`warning`",
            others=("role_name", "reason", "peer", "uid", "pid", "count", "endpoint"),
        ),
        EventNote(
            "uid_lookup_unavailable",
            "This system does not report the users of clients, so the daemon denies a role with "
            "`allow_uids` to every client.",
            "Use `authorization_token_file` instead of `allow_uids`.",
        ),
        EventNote(
            "authorization_check_failed",
            "The volume of the secret's file does not respond. The previous secret stays active.",
            "Check the volume that holds the file of the secret.",
        ),
    ),
    "Configuration and files": (
        EventNote(
            "configuration_reloaded",
            "The roles file changed, and the daemon uses its new content.",
            others=("added", "removed", "changed"),
        ),
        EventNote(
            "configuration_rejected",
            "The roles file changed and cannot be used. The previous configuration stays active.",
            "Fix the line in `reason` before the Pod restarts. A new Pod would have no credentials.",
            others=("reason", "exception", "stack"),
        ),
        EventNote(
            "configuration_check_failed",
            "The volume of the roles file does not respond. The previous configuration stays active.",
            "Check the volume that holds the roles file.",
        ),
        EventNote(
            "reload_ignored",
            "The daemon got SIGHUP, but has no roles file to read.",
            "Set `IRSA_SIDECAR_CONFIG`, or restart the process to change other settings.",
        ),
        EventNote("credentials_file_written", "The daemon replaced the credentials file."),
        EventNote(
            "credentials_file_write_failed",
            "The daemon could not replace the credentials file, and retries. The endpoint is not affected.",
            "Let the sidecar write to the directory of `path`, and check the free space of the volume.",
        ),
        EventNote(
            "role_excluded",
            "The credentials file does not contain a role, because the role has `allow_uids`.",
            "Let the clients of this role use the endpoint, or remove `allow_uids`.",
        ),
        EventNote(
            "state_write_failed",
            "The daemon could not write to the state directory, and retries. The endpoint is not affected.",
            "Let the sidecar write to `path`, and check the free space of the volume.",
        ),
        EventNote(
            "state_unavailable",
            "The kernel does not report a boot ID or the time since the boot (CLOCK_BOOTTIME), so the daemon does not "
            "save credentials.",
            "No action is necessary. After a restart, the daemon needs STS before it can serve.",
        ),
    ),
    "Internal errors": (
        EventNote(
            "background_task_failed",
            "A background task raised an unexpected exception. The process continues, and starts the task again.",
            BUG,
        ),
        EventNote(
            "refresher_failed",
            "The refresh loop of a role raised an unexpected exception. The daemon starts the loop again.",
            BUG,
        ),
        EventNote(
            "secret_check_failed",
            "The check of the secrets' files raised an unexpected exception. The daemon starts the check again.",
            BUG,
        ),
        EventNote(
            "request_failed",
            "A request raised an unexpected exception. The client got status 500 or a closed connection.",
            BUG,
        ),
    ),
    "Pods at the webhook": (
        EventNote(
            "pod_injected",
            "The webhook added the sidecar to a Pod.",
            level="`info`",
            others=("warnings",),
        ),
        EventNote(
            "pod_denied",
            "The webhook rejected a Pod, because its annotations or its ServiceAccount are wrong.",
            "Follow the advice in `reason` in the Pod's template. `kubectl describe` of the Pod's "
            "owner shows the same message.",
            level="`warning`",
            others=("reason", "warnings"),
        ),
        EventNote(
            "pod_denied_temporarily",
            "The webhook rejected a Pod, because it could not get the Pod's ServiceAccount, or "
            "because of an internal error.",
            "Check the API server, and the network between the API server and the webhook. Controllers retry "
            "automatically.",
            level="`warning`",
            others=("reason", "warnings"),
        ),
        EventNote(
            "large_review_rejected",
            "Too many large reviews are waiting, so the webhook returned 503. A review is large if it has more than "
            "16 KiB or 2,000 values. At most 128 large reviews wait, and at most 6 of more than 64 KiB.",
            "Create fewer large Pods at once. Controllers retry automatically.",
        ),
        EventNote("event_sent", "The webhook created a Kubernetes Event with a warning about a Pod."),
        EventNote(
            "event_send_failed",
            "The webhook could not create a Kubernetes Event. The Pod is not affected.",
            "Let the webhook's ServiceAccount create Events (`k8s/webhook/rbac.yaml`).",
        ),
    ),
    "Cluster and certificate of the webhook": (
        EventNote("api_server_version_changed", "The API server has another version than at the last check."),
        EventNote(
            "api_server_version_fetch_failed",
            "The webhook could not read the version of the API server, and retries.",
            "Check the API server and the network policy of the webhook.",
        ),
        EventNote("service_accounts_listed", "The webhook has read all ServiceAccounts, and watches them."),
        EventNote(
            "service_accounts_watch_ended",
            "The watch of ServiceAccounts ended, and the webhook starts it again. Until then, the "
            "webhook fetches each ServiceAccount that it needs.",
            "If the event appears often, check the API server.",
        ),
        EventNote("certificate_renewed", "The webhook wrote a new certificate to its Secret."),
        EventNote("certificate_activated", "The webhook uses another certificate from now on."),
        EventNote("ca_bundle_updated", "The webhook wrote its authorities into the MutatingWebhookConfiguration."),
        EventNote(
            "certificate_update_failed",
            "The webhook could not read or update its Secret or the MutatingWebhookConfiguration, and retries.",
            "Apply the manifests of the webhook again, and check its RBAC permissions.",
        ),
        EventNote(
            "certificate_renewal_failed",
            "The webhook could not write a new certificate to its Secret. It uses the existing "
            "certificate, which is valid.",
            "Let the webhook's ServiceAccount write the Secret, before `expires_at`.",
        ),
        EventNote(
            "certificate_watch_ended",
            "The watch of the Secret or the MutatingWebhookConfiguration ended. The webhook still checks both "
            "objects every hour.",
            "With the level `warning`, give the webhook the permission to watch both objects.",
            level="`warning` if a permission is missing, else `debug`",
        ),
        EventNote(
            "certificate_rejected",
            "The mounted certificate changed and cannot be used. The previous certificate stays active.",
            "Fix the files in `--certificate-file` and `--key-file`.",
        ),
        EventNote(
            "certificate_read_failed",
            "The mounted certificate cannot be read. The previous certificate stays active.",
            "Check the volume of the certificate.",
        ),
    ),
    "Services of `irsa-sidecar local`": (
        EventNote("signing_keys_rotated", "The issuer signs with a new key. It still publishes the old keys."),
        EventNote("signing_keys_fetched", "The local STS fetched the public keys of an issuer."),
        EventNote("page_served", "The page of `irsa-sidecar local` is available. Its address contains a secret path."),
        EventNote(
            "page_failed",
            "A task of the page raised an unexpected exception. `irsa-sidecar local` starts the task again.",
            "Report the error as a bug.",
        ),
        EventNote(
            "page_link_rejected",
            "Somebody used a link of `--open` for the second time, or used a wrong link.",
            "If it was not you, stop `irsa-sidecar local`, because another user may have used the link.",
        ),
        EventNote(
            "control_started",
            "A person used a control (a button) on the page of `irsa-sidecar local`. If the control causes a fault, "
            "the fault ends after `seconds`.",
        ),
        EventNote(
            "control_ended",
            "The fault that a control of `local` caused, such as STS out of service, has ended. "
            "`reason` is `time`, `person` or `another control`.",
        ),
        EventNote(
            "control_failed",
            "A control of `local`, such as STS out of service, could not change the services.",
            "Check the free space of the temporary folder.",
        ),
        EventNote(
            "token_renewal_failed",
            "`irsa-sidecar local` could not replace the token file.",
            "Check the free space of the temporary folder.",
        ),
        EventNote(
            "exchange_granted",
            "The local STS returned credentials for a token.",
            others=("subject", "audience"),
        ),
        EventNote("role_assumed", "The local STS returned credentials for AssumeRole.", others=("caller",)),
        EventNote("caller_identity_returned", "The local STS returned the identity of a caller (GetCallerIdentity)."),
        EventNote(
            "request_rejected",
            "The local STS rejected a request. `message` has the text of AWS, and `reason` has the cause.",
            "Correct the token, the trust policy or the request.",
        ),
        EventNote(
            "request_unanswered",
            "The local STS accepted a request and sends no response, because a person started this fault on the page.",
            "Wait until the fault ends, or end it on the page.",
        ),
        EventNote(
            "trust_statement_not_evaluated",
            "A trust policy has a statement that the local STS cannot evaluate.",
            "Use a simpler condition, or test this policy with AWS.",
        ),
    ),
}
"""Every event by its topic, in the order of the page."""

FIELDS: Mapping[str, str] = {
    "access_key_id": "The access key ID of the credentials, as in CloudTrail.",
    "added": "The names of the new roles.",
    "arn": "The ARN of the assumed role.",
    "audience": "The audience of the token.",
    "authorities": "The number of certificate authorities.",
    "bytes": "The size of the review in bytes.",
    "caller": "The ARN of the session that signed the request.",
    "changed": "The names of the roles whose settings changed.",
    "code": "The error code of STS, the kind of the network error, or `token_NAME` for a problem with the token.",
    "configuration": "The name of the MutatingWebhookConfiguration.",
    "control": "The name of a control of the page.",
    "count": "The number of responses that this line summarizes, or the number of ServiceAccounts.",
    "drain_seconds": "The number of seconds for which the process continues to serve.",
    "dry_run": "True if the request is a dry run, so the API server creates no Pod.",
    "endpoint": "`imds` if the request came to the emulated metadata service.",
    "exception": "The type of the exception. Its text is not logged, because it may contain a secret.",
    "expiration": "The time when the credentials expire, in UTC.",
    "expires_at": "The time when the credentials, the token or the certificate expires, in UTC.",
    "failed": "The measures that were rejected, each with the kernel's reason.",
    "failures": "The number of failures in a row.",
    "from": "The region that was called before.",
    "image": "The image of the sidecar.",
    "involved_object": "The object to which the Event belongs, such as a ReplicaSet.",
    "issuer": "The URL of the issuer.",
    "kid": "The ID of the key.",
    "message": "The message that the client got.",
    "names": "The host names in the certificate.",
    "namespace": "The namespace of the Pod.",
    "native_sidecars": "True if Pods get a native sidecar.",
    "next_step": f"The daemon's next action: one of {codes(step.value for step in NextStep)}.",
    "not_cached": "The number of ServiceAccounts beyond the limit of the cache, or with an unusable annotation.",
    "operation": "The operation of STS.",
    "packages": "The packages with unchecked versions.",
    "path": "The path of the file, or of the webhook's URL.",
    "peer": "The address of the client.",
    "pid": "The process ID of the client, if the daemon can find it.",
    "pod": "The name of the Pod, or the beginning of the name.",
    "ports": "The ports of the listeners.",
    "profiles": "The profiles in the file.",
    "published_keys": "The number of keys that the issuer publishes.",
    "reason": "The cause, with the fix if there is one.",
    "refresh_in_seconds": "Seconds until the next refresh.",
    "rejected_seconds": "The shortest session that STS rejected, in seconds.",
    "removed": "The names of the removed roles.",
    "restart_in_seconds": "Seconds until the task starts again.",
    "retry_in_seconds": "Seconds until the next attempt.",
    "role_arn": "The ARN of the role.",
    "role_name": "The name of the role in the roles file. Without a roles file, the name is `default`.",
    "seconds": "The length of the session, the size of the clock's jump, the difference of the clocks, or the duration "
    "of the fault, in seconds.",
    "service_account": "The ServiceAccount of the Pod.",
    "signal": "The name of the signal.",
    "source": "The Secret or the file of the certificate.",
    "stack": "The modules and lines of the exception.",
    "step": "The number of the step in a role chain.",
    "still_active": "The secret, certificate, authorities or configuration that stays active.",
    "still_serving_until": "The time when the served credentials expire, in UTC, or null without credentials.",
    "sts": "The URL of STS.",
    "subject": "The subject of the token.",
    "task": "The name of the background task.",
    "to": "The region that is called now.",
    "token_expires_at": "The time when the token expires, in UTC.",
    "uid": "The user ID of the client, as the kernel reports it.",
    "url": "The URL of the endpoint.",
    "version": "The version of irsa-sidecar, or of the API server.",
    "waiting": "The number of large reviews that may wait.",
    "warnings": "Warnings about the Pod. The person or controller that creates the Pod gets them too.",
}
"""The meaning of each field."""
