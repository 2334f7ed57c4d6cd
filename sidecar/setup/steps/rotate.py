"""
Rotate the signing keys of a cluster outside EKS, one step at a time.

A rotation has five steps: publish the new key, wait until STS knows it, sign with it, wait until the old tokens have
expired, and remove the old key. --check shows the state of each key and the next step, and changes nothing. --step
makes the next step, unless it would break running Pods. You can stop and continue at any time.

You change the API server's flags yourself, and the command shows when. It publishes the keys in the S3 bucket of the
issuer's URL, and keeps a record of the signing keys there. The exit status is 1 if STS rejects the tokens of a current
key. Otherwise it is 0 if nothing remains or a step was made, and 3 if the next step was not made.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import trio

from sidecar.console import remark, warn
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.printable import printable, printable_json
from sidecar.role import parse_whole_number
from sidecar.setup.aws_steps import check_issuer, open_profile, report_concerns
from sidecar.setup.discovery_documents import Documents, File, key_material, to_publish
from sidecar.setup.issuer_bucket import Bucket, Published, StoredObject, changed_documents, read_published
from sidecar.setup.issuer_checks import key_concerns
from sidecar.setup.issuer_fetch import fetch_issuer
from sidecar.setup.publication import keys_by_id
from sidecar.setup.rotation import (
    OURS,
    Decision,
    History,
    Limits,
    Observation,
    Step,
    decide,
    expires_at,
    read_record,
    too_early,
    updated_history,
    written_record,
)
from sidecar.setup.signers import OpenCluster, Signers, cluster_opener, find_signers, longest_token_seconds

RECORD_PATH = "irsa-sidecar-rotation.json"
"""Path of the record below the issuer's URL. It contains key IDs and times, and no key."""

MIN_TOKEN_SECONDS = 86_400
"""Lifetime of tokens that Pods get by default from webhooks for IRSA."""

DEFAULT_CACHE_SECONDS = 3_600
"""Time after which STS is assumed to know a published key. AWS does not document the time."""

WAITS = 3
"""Exit status if the next step was not made: it is not possible yet, it changes the API server, or it needs --step."""

EXAMPLE = """\
examples:
  irsa-sidecar setup rotate s3://shop-oidc --check    # after each change of the API server's flags
  irsa-sidecar setup rotate s3://shop-oidc --step"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bucket",
        metavar="s3://BUCKET[/PREFIX]",
        help="the bucket of the issuer's documents, and their prefix in the bucket if they have one",
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="show each key and the next step, and change nothing")
    mode.add_argument("--step", action="store_true", help="make the next step, unless it would break running Pods")
    parser.add_argument(
        "--retired",
        metavar="KEY_ID",
        action="append",
        default=[],
        help="an old key that stopped signing before the first --step; can be repeated",
    )
    parser.add_argument(
        "--cache-seconds",
        metavar="SECONDS",
        default=str(DEFAULT_CACHE_SECONDS),
        help=f"the time until STS knows a published key [{DEFAULT_CACHE_SECONDS}]",
    )
    parser.add_argument(
        "--token-lifetime",
        metavar="SECONDS",
        help=f"the longest lifetime of a token [the longest of all Pods, at least {MIN_TOKEN_SECONDS}]",
    )
    parser.add_argument("--jwks-uri", metavar="URL", help="the URL of the keys, as in `setup issuer-documents`")
    parser.add_argument(
        "--ca-file", metavar="FILE", type=Path, help="the private authority of the issuer's certificate"
    )
    parser.add_argument("--context", metavar="NAME", help="the kubeconfig context [the current context]")
    parser.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument("--region", metavar="NAME", help="the bucket's region [AWS_REGION, or the profile's]")
    parser.add_argument("--json", action="store_true", help="print the keys and the step as one JSON document")


class _State(NamedTuple):
    """
    All facts of one run, and the objects that a step replaces.

    `is_reachable` is false if the issuer's URL was not read, or has no documents yet.
    """

    seen: Observation
    history: History
    documents: Documents
    files: tuple[File, File]
    published: Published
    record: StoredObject | None
    is_reachable: bool


def main(args: argparse.Namespace) -> int:
    cache_seconds = parse_whole_number("--cache-seconds", args.cache_seconds, 0, 7 * 86_400)
    open_cluster = cluster_opener(args.context, "irsa-sidecar setup rotate")
    limits = Limits(cache_seconds, _token_seconds(args.token_lifetime, open_cluster))
    with open_profile(args.profile, args.region) as aws:
        bucket = Bucket(aws, args.bucket, "BUCKET")
        signers = find_signers(open_cluster)
        state = _observe(bucket, signers, args)
        _check_retired(args.retired, state.seen)
        updated = updated_history(state.seen, state.history, args.retired)
        decision = decide(state.seen, state.history, updated, limits)
        if args.step and decision.step in OURS:
            _make(bucket, state, updated, decision)
    _report(args, state.seen, updated, decision, limits)
    _warn_if_too_early(state.seen, updated, limits)
    if lead := state.seen.lead_seconds:
        warn(
            f"The clock of an API server is {lead:.0f} s ahead of S3's clock. Its tokens are valid longer, so the wait "
            "for old tokens includes this time. Correct the clock."
        )
    rejected = state.seen.signing - state.seen.served - (state.seen.own - state.seen.stored)
    if state.is_reachable and rejected:
        warn(
            f"STS rejects tokens of {', '.join(sorted(rejected))}, because {state.documents.issuer} does not serve the "
            "key. Check the cache in front of the bucket."
        )
        return 1
    return 0 if decision.step is Step.NONE or (args.step and decision.step in OURS) else WAITS


def _warn_if_too_early(seen: Observation, history: History, limits: Limits) -> None:
    if kids := too_early(seen, history, limits):
        warn(
            f"The API servers no longer accept tokens of {', '.join(sorted(kids))}, which Pods may still have. Add the "
            "key to --service-account-key-file of each API server again."
        )


def _token_seconds(flag: str | None, open_cluster: OpenCluster) -> int:
    if flag is not None:
        return parse_whole_number("--token-lifetime", flag, 600, 2**32)
    with open_cluster() as cluster:
        return max(MIN_TOKEN_SECONDS, longest_token_seconds(cluster))


def _check_retired(retired: list[str], seen: Observation) -> None:
    for kid in retired:
        if kid in seen.signing or kid not in seen.stored | seen.own:
            problem = "an API server signs with it" if kid in seen.signing else "there is no such key"
            raise ConfigurationError(
                f"--retired is {kid[:100]!r}, but {problem}",
                fix="Use the ID of an old key. --check lists all keys",
                setting="--retired",
            )


def _observe(bucket: Bucket, signers: Signers, args: argparse.Namespace) -> _State:
    documents = signers.documents
    check_issuer(documents.issuer)
    files = to_publish(documents, args.jwks_uri)
    published = read_published(bucket, files, documents)
    record = bucket.read(RECORD_PATH)
    found = [each for each in (published.keys_object, published.discovery_object, record) if each is not None]
    is_published = None not in (published.keys_object, published.discovery_object)
    served = _served(documents, args.ca_file) if is_published else None
    seen = Observation(
        own=frozenset(keys_by_id(documents.keys)),
        accepted=signers.accepted,
        stored=frozenset(keys_by_id(published.keys)),
        stored_at=published.keys_object.modified_at if published.keys_object else 0.0,
        served=served or frozenset(),
        signing=signers.signing,
        started_at=signers.started_at,
        now=max((each.read_at for each in found), default=time.time()),
        is_discoverable=published.discovery_object is not None,
        clock=signers.clock,
    )
    history = {} if record is None else read_record(record.content, bucket.url(RECORD_PATH))
    return _State(seen, history, documents, files, published, record, served is not None)


def _served(documents: Documents, ca_file: Path | None) -> frozenset[str] | None:
    """
    Return the IDs of the keys at the issuer's URL, without those that differ from the cluster's key of that ID.

    Returns None if the URL cannot be read from here.
    """
    try:
        published = keys_by_id(trio.run(fetch_issuer, documents.issuer, ca_file).keys)
    except SidecarError as exc:
        warn(f"The published keys cannot be read, so a new key counts as unknown to STS: {exc}")
        return None
    own = keys_by_id(documents.keys)
    return frozenset(
        kid for kid, key in published.items() if kid not in own or key_material(own[kid]) == key_material(key)
    )


def _make(bucket: Bucket, state: _State, updated: History, decision: Decision) -> None:
    """Write the documents that the step changes, and then the record."""
    removed = decision.keys if decision.step is Step.REMOVE else ()
    if decision.step is not Step.RECORD:
        report_concerns(key_concerns(state.documents.keys, state.documents.issuer))
        for file, stored in changed_documents(state.files, state.documents, state.published, removed):
            bucket.write(file.path, file.content.encode(), stored)
    kept = {kid: at for kid, at in updated.items() if kid not in removed}
    if kept != state.history:
        bucket.write(RECORD_PATH, written_record(kept), state.record)


def _report(args: argparse.Namespace, seen: Observation, history: History, decision: Decision, limits: Limits) -> None:
    is_done = args.step and decision.step in OURS
    states = {kid: _key_state(seen, history, kid, limits) for kid in sorted(seen.own | seen.stored)}
    if args.json:
        document = {"version": 1, "keys": states, **_as_document(decision), "done": is_done}
        print(printable_json(json.dumps(document, indent=2)))
        return
    if seen.started_at is None:
        remark(
            "Not every API server responded. The state of old keys is unknown until all do. Run this again, from a "
            "machine that the load balancer does not always connect to the same API server."
        )
    for kid, text in states.items():
        print(printable(f"{kid}: {text}"))
    sentence = (_DONE if is_done else _NEXT)[decision.step]
    print(printable(sentence.format(keys=", ".join(decision.keys), until=_moment(decision.until))))
    sys.stdout.flush()


def _as_document(decision: Decision) -> dict[str, Any]:
    until = None if decision.until is None else _moment(decision.until)
    return {"step": decision.step.value, "step_keys": list(decision.keys), "until": until}


def _key_state(seen: Observation, history: History, kid: str, limits: Limits) -> str:
    """Return a phrase about one key: whether it signs, whether it is published, and when its last token expires."""
    public = "published" if kid in seen.stored else "not published"
    if kid in seen.signing:
        return f"signs, {public}"
    if kid not in history:
        return f"has never signed, {public}"
    end = expires_at(seen, history, kid, limits)
    if end is None:
        return f"old, {public}; an API server may still sign with it"
    return f"old, {public}; its last token {'expires' if end > seen.now else 'expired'} at {_moment(end)}"


def _moment(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_NEXT = {
    Step.PUBLISH: "next: publish {keys}, with --step",
    Step.RECORD: "next: record which keys sign, with --step: {keys}",
    Step.REMOVE: "next: remove {keys} from the bucket, with --step",
    Step.ADD_TO_API_SERVERS: "next: add {keys} to --service-account-key-file of each API server. One lacks it",
    Step.SIGN: "next: set --service-account-signing-key-file of each API server to the private key of {keys}",
    Step.REMOVE_FROM_API_SERVER: "next: remove {keys} from --service-account-key-file of each API server",
    Step.NAME_KEY: "next: no check saw {keys} sign. If it is an old key, run this again with --retired {keys}",
    Step.WAIT_FOR_API_SERVERS: "wait: not every API server responded, so one may still sign with {keys}",
    Step.WAIT_FOR_STS: "wait: STS may not know {keys}, until {until} and until the issuer's URL serves the key",
    Step.WAIT_FOR_TOKENS: "wait: tokens of {keys} are valid until {until}",
    Step.NONE: "nothing to do. To start a rotation, add the new public key with a second --service-account-key-file",
}
"""The sentence for each step that was not made."""

_DONE = {
    Step.PUBLISH: "done: published {keys}",
    Step.RECORD: "done: recorded which keys sign: {keys}",
    Step.REMOVE: "done: removed {keys} from the bucket",
}
"""The sentence for each step that was made."""
