"""
Write or publish the documents with which STS verifies the tokens of a cluster outside EKS.

The command writes the discovery document and the keys from the API server into a directory or an S3 bucket. You publish
the directory at the issuer's URL. In a bucket, the command only adds keys, because Pods may still have tokens that
other keys signed. With --check, the command compares the published keys with the API server's keys, and exits with 1 if
they differ. Check the keys after you add a signing key, and before you remove the old key.
"""

import argparse
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from sidecar.console import remark
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.kubernetes.open_cluster import open_named_cluster
from sidecar.printable import printable
from sidecar.setup.aws_steps import check_issuer, open_profile, report_concerns
from sidecar.setup.discovery_documents import KEYS_PATH, Documents, File, key_differences, read_documents, to_publish
from sidecar.setup.issuer_bucket import Bucket, changed_documents, read_published
from sidecar.setup.issuer_checks import DISCOVERY_PATH, discovery_concerns, key_concerns
from sidecar.setup.issuer_choice import Issuer
from sidecar.setup.issuer_fetch import UnreachableError, fetch_issuer
from sidecar.setup.outcome import Outcome, add_outcome_arguments, check_outcome_arguments, command, finish

EXAMPLE = """\
examples:
  irsa-sidecar setup issuer-documents --publish s3://BUCKET
  irsa-sidecar setup issuer-documents --directory public
  irsa-sidecar setup issuer-documents --check"""


_BUCKET = re.compile(r"https://([a-z0-9.-]+)\.s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?(/.*)?")
"""Pattern for the URL of an S3 bucket (Amazon S3 User Guide, Virtual hosting of general purpose buckets)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--directory", metavar="DIR", type=Path, help="write both documents into this directory")
    mode.add_argument(
        "--publish",
        metavar="s3://BUCKET[/PREFIX]",
        help="write both documents into this bucket, below the prefix if any",
    )
    mode.add_argument("--check", action="store_true", help="compare the published keys with the cluster's keys")
    parser.add_argument("--issuer", metavar="URL", help="stop if the API server has another issuer")
    parser.add_argument(
        "--jwks-uri", metavar="URL", help=f"the URL at which you will publish the keys [ISSUER{KEYS_PATH}]"
    )
    parser.add_argument("--profile", metavar="NAME", help="with --publish: a profile of ~/.aws/config [AWS_PROFILE]")
    parser.add_argument("--region", metavar="NAME", help="with --publish: the bucket's region [AWS_REGION]")
    parser.add_argument("--context", metavar="NAME", help="the kubeconfig context [the current context]")
    parser.add_argument(
        "--ca-file", metavar="FILE", type=Path, help="with --check: the private authority of the issuer's certificate"
    )
    parser.add_argument("--dry-run", action="store_true", help="show which files would be written, and write nothing")
    add_outcome_arguments(parser)


def main(args: argparse.Namespace) -> int:
    check_outcome_arguments(args)
    if args.check and (args.json or args.dry_run):
        raise ConfigurationError(
            "--check is used with --json or --dry-run, but writes nothing and exits with 1 if the keys differ",
            fix="Leave out --json and --dry-run",
            setting="--check",
        )
    documents = _fetch(args.context)
    if args.issuer not in (None, documents.issuer):
        raise ConfigurationError(
            f"--issuer is {args.issuer}, and the API server's is {documents.issuer}",
            fix="Set its --service-account-issuer, which is the `iss` of its tokens, or correct --issuer",
            setting="--issuer",
        )
    check_issuer(documents.issuer)
    if args.check:
        return _check(documents, args.ca_file)
    if Issuer(documents.issuer).eks_region:
        remark(f"EKS itself publishes the documents of {documents.issuer}: you do not need to publish them.")
    files = to_publish(documents, args.jwks_uri)
    report_concerns(discovery_concerns({**documents.discovery, "jwks_uri": files[0].url}, documents.issuer))
    report_concerns(key_concerns(documents.keys, documents.issuer))
    if args.publish:
        return finish(_outcome(args, documents, _publish(args, documents, files), files), args)
    written = [str(path) for file in files if (path := _write(args.directory, file, args)) is not None]
    return finish(_outcome(args, documents, written, files), args)


def _publish(args: argparse.Namespace, documents: Documents, files: tuple[File, File]) -> list[str]:
    """Write the documents that changed into the bucket, unless --dry-run is set, and return their URLs."""
    with open_profile(args.profile, args.region) as aws:
        bucket = Bucket(aws, args.publish, "--publish")
        changes = changed_documents(files, documents, read_published(bucket, files, documents))
        for file, stored in changes:
            if not args.dry_run:
                bucket.write(file.path, file.content.encode(), stored)
            _print(args, f"{bucket.url(file.path)}: {'would be written' if args.dry_run else 'written'}")
    if not changes:
        _print(args, f"{args.publish}: nothing to change")
    return [bucket.url(file.path) for file, _ in changes]


def _outcome(args: argparse.Namespace, documents: Documents, written: list[str], files: Sequence[File]) -> Outcome:
    changes = tuple(f"write {place}" for place in written)
    return Outcome(
        "issuer-documents",
        f"documents of {documents.issuer}",
        changes,
        before={},
        after={file.url: json.loads(file.content) for file in files},
        next_commands=(*_uploads(documents.issuer, args), _provider(args, documents.issuer)),
    )


def _uploads(issuer: str, args: argparse.Namespace) -> tuple[str, ...]:
    """Return the command that copies --directory into the issuer's S3 bucket. Return none if there is no such copy."""
    match = _BUCKET.fullmatch(issuer)
    if match is None or args.publish:
        return ()
    target, copy = f"s3://{match[1]}{match[2] or ''}", ("aws", "s3", "cp", "--recursive")
    return (command(*copy, "--content-type", "application/json", str(args.directory), target),)


def _provider(args: argparse.Namespace, issuer: str) -> str:
    ca_file = None if args.ca_file is None else str(args.ca_file)
    return command("irsa-sidecar", "setup", "oidc-provider", issuer=issuer, ca_file=ca_file)


def _fetch(context: str | None) -> Documents:
    with open_named_cluster(os.environ, context, "irsa-sidecar setup issuer-documents") as cluster:
        return read_documents(cluster.get_raw(DISCOVERY_PATH), cluster.get_raw(KEYS_PATH))


def _check(documents: Documents, ca_file: Path | None) -> int:
    """
    Print how the published keys differ from the cluster's keys. Return 1 if they differ, otherwise 0.

    Raises SidecarError if the published documents cannot be fetched, or if STS cannot use them.
    """
    try:
        published = trio.run(fetch_issuer, documents.issuer, ca_file)
    except UnreachableError as exc:
        fix = "Publish the documents there, or run this from a machine with internet access"
        raise SidecarError(exc.problem, fix=fix) from exc
    report_concerns(discovery_concerns(published.discovery, documents.issuer))
    report_concerns(key_concerns(published.keys, documents.issuer))
    differences = sorted(key_differences(published.keys, documents.keys))
    for difference in differences:
        print(printable(difference))
    if not differences:
        print(printable(f"{documents.issuer}: the published documents match the cluster's"))
    return 1 if differences else 0


def _write(directory: Path, file: File, args: argparse.Namespace) -> Path | None:
    """Write the file if it is missing or different. Return its path if it changed or would change, else None."""
    path = directory / file.path
    try:
        if path.exists() and path.read_text() == file.content:
            _print(args, f"{path}: nothing to change (for {file.url})")
            return None
        if not args.dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, file.content)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"--directory is {str(directory)!r}, but {file.path} cannot be written ({exc})",
            fix="Use another directory",
            setting="--directory",
        ) from exc
    _print(args, f"{path}: {'would be written' if args.dry_run else 'written'} (for {file.url})")
    return path


def _print(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(printable(text))


def _replace(path: Path, content: str) -> None:
    """Replace the file atomically, because a web server may already serve it."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)
    os.replace(draft, path)
