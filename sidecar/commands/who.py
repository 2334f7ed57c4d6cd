"""
Find the Pod that used an access key, a role session or a role.

The command joins the log of the sidecars with CloudTrail records. The log shows the Pod that had an access key.
CloudTrail shows the service account that obtained the key, and the calls with the key. One source is enough.

Exit status: 0 a session was found, 1 no session was found, 2 wrong usage or configuration.
"""

import argparse
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sidecar.console import remark
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra
from sidecar.named_file import check_size, read_named_file

if TYPE_CHECKING:
    from sidecar.attribution.cloudtrail import Record
    from sidecar.attribution.log_lines import LogFile
    from sidecar.attribution.target import Target

EXAMPLE = """\
examples:
  kubectl logs -n shop deploy/cart -c irsa-sidecar --prefix | irsa-sidecar who ASIAIOSFODNN7EXAMPLE --logs -
  irsa-sidecar who arn:aws:sts::111122223333:assumed-role/cart/shop.cart-1 --cloudtrail trail/*.json.gz
  irsa-sidecar who ASIAIOSFODNN7EXAMPLE --cloudtrail-api"""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Limit for the size of one file, also after decompression. A small gzip file can grow to any size."""

_FIX = "Use a readable file, or search the file for the access key with grep and use `-` to read stdin"
_GZIP_MAGIC = b"\x1f\x8b"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("who", metavar="WHO", help="access key ID, role session name, or ARN of a role or session")
    parser.add_argument(
        "--logs",
        metavar="FILE",
        nargs="+",
        default=[],
        help="logs of the sidecars, also in the format of a log collector; the file - means stdin",
    )
    parser.add_argument(
        "--cloudtrail",
        metavar="FILE",
        nargs="+",
        default=[],
        help="CloudTrail records, also compressed; the file - means stdin",
    )
    parser.add_argument(
        "--cloudtrail-api", action="store_true", help="look up CloudTrail's events of the last 90 days in your region"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document with a stable schema")
    parser.add_argument("--profile", metavar="NAME", help="with --cloudtrail-api: profile of the AWS credentials")
    parser.add_argument("--region", metavar="NAME", help="with --cloudtrail-api: region of the events")


def main(args: argparse.Namespace) -> int:
    from sidecar.attribution import report, sessions  # noqa: PLC0415  imported only for this command
    from sidecar.attribution.log_lines import joined  # noqa: PLC0415
    from sidecar.attribution.target import parse_target  # noqa: PLC0415

    target = parse_target(args.who)
    if not (args.logs or args.cloudtrail or args.cloudtrail_api):
        raise ConfigurationError(
            "Neither logs nor CloudTrail records are named", fix="Use --logs, --cloudtrail or --cloudtrail-api"
        )
    files = [_log_file(path) for path in args.logs]
    trail = [*_trail_files(args.cloudtrail), *(_looked_up(args, target) if args.cloudtrail_api else ())]
    found = sessions.find_sessions(target, joined(files), trail)
    if args.json:
        print(report.as_json(found))
    elif found:
        print(report.as_text(found))
    else:
        remark(
            f"No session of {args.who} is in {sum(len(f.records) for f in files)} log lines about credentials and "
            f"{len(trail)} CloudTrail records."
        )
    return 0 if found else 1


def _log_file(path: str) -> "LogFile":
    from sidecar.attribution.log_lines import read_log  # noqa: PLC0415

    return read_log(_text("--logs", path).splitlines(), path)


def _trail_files(paths: Iterable[str]) -> Iterator["Record"]:
    from sidecar.attribution.cloudtrail import read_documents, records  # noqa: PLC0415

    for path in paths:
        yield from records(read_documents(_text("--cloudtrail", path), path))


def _text(setting: str, path: str) -> str:
    """
    Return the text of a file. CloudTrail's files are compressed with gzip, and PowerShell writes UTF-16.

    Raises ConfigurationError if the file cannot be read.
    """
    content = read_named_file(setting, path, limit=MAX_FILE_BYTES, fix=_FIX)
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_FILE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as exc:
            raise ConfigurationError(
                f"{setting} is {path}, which cannot be read ({exc})", fix=_FIX, setting=setting
            ) from exc
        check_size(setting, path, content, limit=MAX_FILE_BYTES, fix=_FIX)
    return content.decode(json.detect_encoding(content), "replace")


def _looked_up(args: argparse.Namespace, target: "Target") -> Iterator["Record"]:
    """Yield the records of CloudTrail's event history for the target."""
    from sidecar.attribution.cloudtrail import read_documents, records  # noqa: PLC0415

    lookup: Any = import_extra("sidecar.setup.cloudtrail", "irsa-sidecar who", "setup")
    text = lookup.look_up(args.profile, args.region, lookup.attribute_of(target))
    yield from records(read_documents(text, "the response of CloudTrail"))
