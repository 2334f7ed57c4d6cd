"""
Run the queries of docs/attribution.md on sample records.

Athena and CloudTrail Lake use the SQL of Trino, which sqlglot translates for DuckDB. CloudWatch Logs Insights has no
engine outside of AWS, so a small interpreter runs the commands in these queries.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pytest
import sqlglot

from sidecar.attribution.report import as_text
from sidecar.attribution.sessions import Session
from tests.support.documents import ROOT
from tests.unit.attribution.samples import (
    KEY,
    NODE_ADDRESS,
    OTHER_KEY,
    ROLE,
    SESSION,
    call,
    exchange,
    refreshed,
    served,
)

PAGE = (ROOT / "docs" / "attribution.md").read_text(encoding="utf-8")
TITLED = re.compile(r"```sql\n-- ([^\n]+)\n(.*?)```", re.DOTALL)
INSIGHTS = re.compile(r"```text\n((?:fields|filter).*?)```", re.DOTALL)

RECORDS = (
    exchange(),
    exchange(OTHER_KEY, "other-program", userAgent="Boto3/1.40"),
    call(),
    call(),
    call("PutObject", errorCode="AccessDenied"),
    call("ListBuckets", sourceIPAddress="198.51.100.9"),
    call("Decrypt", sourceIPAddress="s3.amazonaws.com"),
)

ROWS: dict[str, list[tuple[Any, ...]]] = {
    "Athena: who obtained a key": [
        ("2026-11-28T12:00:00Z", "system:serviceaccount:shop:cart", ROLE, SESSION, NODE_ADDRESS)
    ],
    "Athena: what a key was used for": [
        ("s3.amazonaws.com", "Decrypt", "s3.amazonaws.com", None, 1),
        ("s3.amazonaws.com", "GetObject", NODE_ADDRESS, None, 2),
        ("s3.amazonaws.com", "ListBuckets", "198.51.100.9", None, 1),
        ("s3.amazonaws.com", "PutObject", NODE_ADDRESS, "AccessDenied", 1),
    ],
    "Athena: keys used from another address": [
        (KEY, "system:serviceaccount:shop:cart", NODE_ADDRESS, "198.51.100.9", 1)
    ],
    "Athena: exchanges by other programs": [("system:serviceaccount:shop:cart", ROLE, "Boto3/1.40", 1)],
}
ROWS |= {
    "CloudTrail Lake: who obtained a key": ROWS["Athena: who obtained a key"],
    "CloudTrail Lake: what a key was used for": ROWS["Athena: what a key was used for"],
}


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Provide the table of Athena and the event data store of CloudTrail Lake, with the sample records."""
    with duckdb.connect() as connection:
        identity = "STRUCT(type VARCHAR, arn VARCHAR, accesskeyid VARCHAR, username VARCHAR)"
        shared = "eventtime VARCHAR, eventsource VARCHAR, eventname VARCHAR, sourceipaddress VARCHAR, useragent VARCHAR"
        columns = f"useridentity {identity}, {shared}, errorcode VARCHAR"
        connection.execute(
            f"CREATE TABLE cloudtrail_logs ({columns}, requestparameters VARCHAR, responseelements VARCHAR)"
        )
        text_map = "MAP(VARCHAR, VARCHAR)"
        connection.execute(
            f"CREATE TABLE event_data_store ({columns}, requestparameters {text_map}, responseelements {text_map})"
        )
        for record in RECORDS:
            parts = [record.get("requestParameters"), record.get("responseElements")]
            insert(connection, "cloudtrail_logs", record, [part and json.dumps(part) for part in parts])
            insert(connection, "event_data_store", record, [part and _as_text_map(part) for part in parts])
        yield connection


def insert(connection: duckdb.DuckDBPyConnection, table: str, record: Mapping[str, Any], parts: Sequence[Any]) -> None:
    identity = {name.lower(): record["userIdentity"].get(name) for name in ("type", "arn", "accessKeyId", "userName")}
    names = ("eventTime", "eventSource", "eventName", "sourceIPAddress", "userAgent", "errorCode")
    values = [identity, *(record.get(name) for name in names), *parts]
    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def _as_text_map(part: Mapping[str, Any]) -> dict[str, str]:
    """Return the part as CloudTrail Lake stores it: a map whose values are text."""
    return {key: value if isinstance(value, str) else str(value) for key, value in part.items()}


def test_page_has_each_tested_query() -> None:
    assert {title for title, _ in TITLED.findall(PAGE)} == set(ROWS)


@pytest.mark.parametrize(("title", "query"), TITLED.findall(PAGE), ids=lambda text: text[:40])
def test_query_finds_its_records(database: duckdb.DuckDBPyConnection, title: str, query: str) -> None:
    (translated,) = sqlglot.transpile(query, read="trino", write="duckdb")
    rows = database.execute(translated).fetchall()
    assert sorted(rows, key=str) == sorted(ROWS[title], key=str)


# CloudWatch Logs Insights


def stored(line: str) -> dict[str, Any]:
    """Return the fields of a line as Fluent Bit for CloudWatch stores them, with the names that a query uses."""
    fields = {f"log_processed.{name}": value for name, value in json.loads(line).items()}
    pod = {"kubernetes.namespace_name": "shop", "kubernetes.pod_name": "cart-1"}
    return {"@timestamp": fields["log_processed.time"], **pod, **fields}


def insights(query: str, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the result of a query with the commands fields, filter, stats, sort and limit."""
    names: list[str] | None = None
    found = list(events)
    for command in re.split(r"\n\| ", query.strip()):
        verb, _, rest = command.partition(" ")
        if verb == "fields":
            names = rest.split(", ")
        elif verb == "filter":
            conditions = re.findall(r'(\S+) = "([^"]*)"', rest)
            assert rest == " and ".join(f'{name} = "{value}"' for name, value in conditions)
            found = [event for event in found if all(event.get(name) == value for name, value in conditions)]
        elif verb == "stats":
            found = _stats(rest, found)
        elif verb == "sort":
            name, direction = rest.split(" ")
            found = sorted(found, key=lambda event, name=name: event[name], reverse=direction == "desc")
        else:
            assert verb == "limit"
            found = found[: int(rest)]
    return found if names is None else [{name: event.get(name) for name in names} for event in found]


def _stats(rest: str, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    match = re.fullmatch(r"count\(\*\) as (\S+), sum\((\S+)\) as (\S+) by (.+)", rest)
    assert match is not None
    count, summed, total, by = match[1], match[2], match[3], match[4].split(", ")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for event in events:
        groups.setdefault(tuple(event.get(name) for name in by), []).append(event)
    return [
        dict(zip(by, key, strict=True)) | {count: len(group), total: sum(event.get(summed, 0) for event in group)}
        for key, group in groups.items()
    ]


def test_insights_queries_find_their_lines() -> None:
    which, how_many = INSIGHTS.findall(PAGE)
    lines = refreshed(OTHER_KEY), refreshed(), served(uid=1000), served(uid=1000), served(count=5)
    events = [stored(line) for line in lines]
    (found,) = insights(which, events)
    assert found["kubernetes.pod_name"] == "cart-1"
    assert found["log_processed.role_arn"] == ROLE
    rows = [(row["log_processed.uid"], row["lines"], row["further"]) for row in insights(how_many, events)]
    assert rows == [(1000, 2, 0), (None, 1, 5)]


def test_example_output_has_the_labels_of_the_command() -> None:
    example = re.search(r"```text\nAccess key (.*?)```", PAGE, re.DOTALL)
    assert example is not None
    shown = {line[2:19].strip() for line in example[1].splitlines()[1:]}
    session = Session(KEY, ROLE, SESSION, service_account="shop/cart", source_ip=NODE_ADDRESS)
    labels = {line[2:19].strip() for line in as_text([session]).splitlines()[1:]}
    assert labels <= shown
