"""
Read and write an issuer's documents in an S3 bucket.

Rule: a write names the version that was read (ETag), so two people cannot overwrite each other's change. S3 supports
If-Match and If-None-Match for PutObject since November 2024 (Amazon S3 User Guide, Conditional requests).
"""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.setup.discovery_documents import Documents, File, document_text
from sidecar.setup.publication import check_issuer_of, joined_keys, read_stored, same_document

if TYPE_CHECKING:
    from sidecar.setup.aws import Aws

CACHE_CONTROL = "public, max-age=300"
"""Header of the published documents. A cache in front of the bucket then serves a new key after five minutes."""

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/-]*))?")
"""Pattern for a bucket and a prefix of keys (Amazon S3 User Guide, Bucket naming rules, Safe characters)."""


class StoredObject(NamedTuple):
    """
    An object of the bucket.

    `etag` is its version, `modified_at` the time of its last change, and `read_at` the time of the request. All times
    are from S3's clock, in seconds since the epoch.
    """

    content: bytes
    etag: str
    modified_at: float
    read_at: float


class Published(NamedTuple):
    """The issuer's documents in a bucket. Objects are None if they do not exist. `keys` is the stored key set."""

    keys_object: StoredObject | None
    discovery_object: StoredObject | None
    keys: Mapping[str, Any]


class Bucket:
    """
    The place of an issuer's documents in S3.

    Raises ConfigurationError if `url` does not have the form s3://BUCKET or s3://BUCKET/PREFIX.
    """

    def __init__(self, aws: "Aws", url: str, setting: str) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                f"{setting} is {url[:200]!r}, which is not a bucket's URL",
                fix="Use s3://BUCKET or s3://BUCKET/PREFIX",
                setting=setting,
            )
        self._aws = aws
        self._name = match[1]
        self._prefix = (match[2] or "").strip("/")

    def url(self, path: str) -> str:
        return f"s3://{self._name}/{self._key(path)}"

    def read(self, path: str) -> StoredObject | None:
        """
        Return the object, or None if it does not exist.

        Raises AwsError if S3 rejects the request.
        """
        return self._aws.read_object(self._name, self._key(path))

    def write(self, path: str, content: bytes, replaces: StoredObject | None) -> None:
        """
        Replace the object that was read. None means that no object existed.

        Raises AwsError if the object changed after it was read, or if S3 rejects the request.
        """
        condition: Mapping[str, str] = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces.etag}
        self._aws.call(
            "s3",
            "PutObject",
            Bucket=self._name,
            Key=self._key(path),
            Body=content,
            ContentType="application/json",
            CacheControl=CACHE_CONTROL,
            **condition,
        )

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path


def read_published(bucket: Bucket, files: tuple[File, File], documents: Documents) -> Published:
    """
    Return the documents that the bucket has. `files` are the keys and the discovery document that belong there.

    Raises SidecarError if the documents belong to another issuer, or if the stored keys cannot be joined with the
    cluster's keys.
    """
    keys, discovery = (bucket.read(file.path) for file in files)
    check_issuer_of(None if discovery is None else discovery.content, documents.issuer, bucket.url(files[1].path))
    stored = read_stored(None if keys is None else keys.content, bucket.url(files[0].path))
    joined_keys(documents.keys, stored)
    return Published(keys, discovery, stored)


def changed_documents(
    files: tuple[File, File], documents: Documents, published: Published, removed: Collection[str] = ()
) -> list[tuple[File, StoredObject | None]]:
    """Return the documents to write, with the objects that they replace. The keys come first."""
    keys = File(*files[0][:2], document_text(joined_keys(documents.keys, published.keys, removed)))
    pairs = ((keys, published.keys_object), (files[1], published.discovery_object))
    return [
        (file, stored) for file, stored in pairs if stored is None or not same_document(stored.content, file.content)
    ]
