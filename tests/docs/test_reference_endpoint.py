"""Check that the reference has every status, message, header and document of the listeners."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.metrics import Metrics
from sidecar.serving import admin, container_credentials, http, imds, server
from sidecar.serving.status import as_document
from tests.docs.reference.endpoint_notes import (
    CREDENTIAL_FIELDS,
    DENIALS,
    HEADERS,
    IMDS_DOCUMENTS,
    STATUS_FIELDS,
    STATUSES,
)
from tests.docs.reference.endpoint_responses import (
    NOW,
    SNAPSHOT,
    STATUS,
    imds_answer,
    of_imds,
    of_the_credentials,
    of_the_grammar,
    of_the_server,
    open_session,
    parsed,
)
from tests.docs.reference.pages import path_of

MODULES = (container_credentials, http, imds, server)
ERRORS = [*of_the_credentials(), *of_the_grammar(http.Grammar("GET")), *of_the_server(), *of_imds()]


def test_every_status_is_described_and_used() -> None:
    assert list(STATUSES) == list(http.REASONS)
    assert {answer.status for answer in ERRORS} | {200} == set(STATUSES)


def test_every_message_in_the_code_is_on_the_page() -> None:
    """A message that depends on values is created from an example, and is not a constant in the code."""
    messages = {answer.message for answer in ERRORS}
    found = {text for module in MODULES for text in _messages_in(str(module.__file__))}
    assert "The request did not arrive completely in time." in found
    assert found - messages == set()


def _messages_in(path: str) -> Iterator[str]:
    """Yield the constant messages of rejections and errors in a module."""
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        is_error = isinstance(node, ast.Call) and _name(node.func) in {"Rejection", "rejection", "error_response"}
        if is_error and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):  # type: ignore[attr-defined]
            yield str(node.args[1].value)  # type: ignore[attr-defined]


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def test_every_header_is_described() -> None:
    session = imds_answer("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n")
    answers = [*ERRORS, session, parsed(SNAPSHOT.response)]
    assert {name for answer in answers for name, _ in answer.headers} == set(HEADERS)


def test_every_field_of_the_credentials_is_described() -> None:
    assert list(json.loads(parsed(SNAPSHOT.response).body)) == list(CREDENTIAL_FIELDS)


def test_every_reason_of_a_denial_is_described() -> None:
    tree = ast.parse(Path(container_credentials.__file__).read_text(encoding="utf-8"))
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "denial"]
    found = {node.value.value for node in keywords if isinstance(node.value, ast.Constant) and node.value.value}
    assert found == set(DENIALS)


def test_every_imds_document_is_described() -> None:
    paths = {f"/{path.decode()}" for path in imds._INSTANCE_DOCUMENTS}
    roles, info = f"/{imds._ROLES.decode()}", f"/{imds._INFO.decode()}"
    assert set(IMDS_DOCUMENTS) == {*paths, f"{roles}/", f"{roles}/app", info}


@pytest.mark.parametrize("path", IMDS_DOCUMENTS)
def test_imds_document_is_served(path: str) -> None:
    assert imds_answer("GET", path, open_session()).status == 200


def test_page_has_every_path_of_the_admin_address() -> None:
    request = http.parse(b"GET /other HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert isinstance(request, http.Request)
    listed = parsed(admin.respond(request, [], Metrics(), 0, NOW).content).body
    text = path_of("endpoint").read_text(encoding="utf-8")
    paths = [word.strip(".,\n") for word in listed.split() if word.startswith("/")]
    assert len(paths) >= 3
    assert [path for path in paths if f"| `{path}` | 200 |" not in text] == []


def test_every_field_of_the_status_is_described() -> None:
    document = as_document(STATUS)
    role = document["roles"][0]
    objects = (document, role, role["last_call"], role["error"], role["clients"][0])
    assert [list(each) for each in objects] == [list(fields) for fields in STATUS_FIELDS.values()]
