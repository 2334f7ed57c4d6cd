"""
Test that manifests have the same values as in kubectl.

Go printed the expected values: sigs.k8s.io/yaml 1.6.0 (`YAMLToJSON`) for documents, and the stream decoder of
k8s.io/apimachinery 0.36.2 for streams.
"""

from typing import Any

import pytest
import yaml

from sidecar.setup.yaml import reader as yaml_reader
from sidecar.setup.yaml.edit import equal
from sidecar.setup.yaml.errors import UnreadableError
from sidecar.setup.yaml.reader import Scalar, read_documents, walk
from sidecar.setup.yaml.stream import read_document, split_stream

SCALARS: dict[str, Any] = {
    "0400": 256,
    "0o400": 256,
    "0O17": 15,
    "0755": 493,
    "-017": -15,
    "0_400": 256,
    "0x1F": 31,
    "0b101": 5,
    "-0b11": -3,
    "1_000": 1000,
    "_1": "_1",
    "08": 8,
    "0777888": 777888,
    "1e3": 1000,
    "1.e5": 100000,
    ".5": 0.5,
    "+.5": 0.5,
    ".": ".",
    "+": "+",
    "1.": 1,
    "12e03": 12000,
    ".1_0": 0.1,
    "9223372036854775808": 9223372036854775808,
    "1e400": "1e400",
    "0.10": 0.1,
    "1.10": 1.1,
    "infinity": "infinity",
    "yes": True,
    "No": False,
    "on": True,
    "OFF": False,
    "y": True,
    "N": False,
    "tRUE": "tRUE",
    "~": None,
    "null": None,
    "nULL": "nULL",
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "2024-05-06": "2024-05-06",
    "2024-05-06T07:08:09Z": "2024-05-06T07:08:09Z",
    "=": "=",
    "0x": "0x",
    "0o8": "0o8",
    "1,000": "1,000",
    "10m": "10m",
}
"""Plain scalars, and the values that kubectl reads for them."""

DOCUMENTS: dict[str, Any] = {
    "a: b\na: c\n": {"a": "c"},
    "labels: {app: a, app: b}\n": {"labels": {"app": "b"}},
    # Tabs before and after a value.
    "a: x\t\n": {"a": "x"},
    "a:\tx\n": {"a": "x"},
    'a: ["x"]\t# c\n': {"a": ["x"]},
    "a: x\t# c\n": {"a": "x"},
    '{"a":\t1}\n': {"a": 1},
    # Directives, markers and line ends.
    "%YAML 1.1\n---\na: b\n": {"a": "b"},
    "a: b\n%YAML 1.1 # c\n": {"a": "b"},
    "a: b\n...\n}{\n": {"a": "b"},
    "a: b\r\nc: d\r\n": {"a": "b", "c": "d"},
    "a: b\rc: d\r": {"a": "b", "c": "d"},
    # Anchors and merge keys. Unlike in YAML 1.1, the order of the keys matters.
    "a: &x {b: c}\nd: *x\n": {"a": {"b": "c"}, "d": {"b": "c"}},
    "a: &x [&x 1]\nb: *x\n": {"a": [1], "b": 1},
    "a: &x 1\nb: &x 2\nc: *x\n": {"a": 1, "b": 2, "c": 2},
    "a: &b {x: 1, w: 2}\nc: {<<: *b, w: 3}\n": {"a": {"x": 1, "w": 2}, "c": {"x": 1, "w": 3}},
    "a: &b {x: 1, w: 2}\nc: {w: 3, <<: *b}\n": {"a": {"x": 1, "w": 2}, "c": {"x": 1, "w": 2}},
    "a: &b {x: 1}\nc: &d {x: 2, z: 1}\ne: {<<: [*b, *d], w: 1}\n": {
        "a": {"x": 1},
        "c": {"x": 2, "z": 1},
        "e": {"x": 1, "w": 1, "z": 1},
    },
    "'<<': {a: 1}\n": {"<<": {"a": 1}},
    # Keys that become strings.
    "1: x\n1.5: r\ntrue: z\n0x10: q\n2024-01-01: t\n0400: o\n": {
        "1": "x",
        "1.5": "r",
        "true": "z",
        "16": "q",
        "2024-01-01": "t",
        "256": "o",
    },
    # Tags.
    "a: !!str 1\nb: !!int '3'\nc: !!float 1\nd: ! 12\ne: !x 12\nf: !!binary aGVsbG8=\n": {
        "a": "1",
        "b": 3,
        "c": 1,
        "d": "12",
        "e": "12",
        "f": "hello",
    },
    # Missing values, short forms of lists and mappings, and block scalars.
    "? a\n": {"a": None},
    "[a: b, c]\n": [{"a": "b"}, "c"],
    "{a, b}\n": {"a": None, "b": None},
    "- - a\n  - b\n-\n- c\n": [["a", "b"], None, "c"],
    "a: |+\n  x\n\n\nb: c\n": {"a": "x\n\n\n", "b": "c"},
    "a: |\n  x": {"a": "x"},
}

REFUSED = {
    "a tab as indent": "a:\n\tb: c\n",
    "a template's placeholder": "a: {{ .Values.x }}\n",
    "a placeholder as a key": "{{ .x }}: a\n",
    "a list as a key": "? [a]\n: b\n",
    "a null key": "~: x\n",
    "an anchor that contains itself": "a: &x [*x]\n",
    "an unknown anchor": "a: *y\n",
    "a merge with a number": "<<: 1\na: b\n",
    "a merge with a list of numbers": "<<: [1]\n",
    "a tag that does not fit": "a: !!int x\n",
    "not base64": "a: !!binary '*'\n",
    "a bracket that is not closed": "c: [\n",
    "a control character": "a: \x01\n",
    "a key of 1,500 characters": "x" * 1500 + ": b\n",
    "excessive aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
    ),
    "deep nesting": "[" * 1000,
}

STREAMS: dict[str, list[Any]] = {
    "a: b\n---\nc: d\n": [{"a": "b"}, {"c": "d"}],
    "--- # x\na: b\n---   \nc: d\n---\t\ne: f\n": [{"a": "b"}, {"c": "d"}, {"e": "f"}],
    "a: b\n---\n---\n---\nc: d\n": [{"a": "b"}, {"c": "d"}],
    "---\n# c\n---\na: b\n": [{"a": "b"}],
    "a: b\n%YAML 1.1 # c\n---\nc: d\n": [{"a": "b"}, {"c": "d"}],
    "\ufeffa: b\n---\nc: d\n": [{"a": "b"}, {"c": "d"}],
    "\ufeff---\na: b\n": [{"a": "b"}],
    "a: b\n---\n\ufeffc: d\n": [{"a": "b"}, {"c": "d"}],
    "a: b\n---\n\ufeff---\nc: d\n--- \t\r\n\ufeff{e: f}\n": [{"a": "b"}, {"c": "d"}, {"e": "f"}],
    "a: b\r\n---\r\nc: d\r\n": [{"a": "b"}, {"c": "d"}],
    '{"a":1}{"b":2}': [{"a": 1}, {"b": 2}],
    '{"a":1}\n{"b":"\\ud83d\\ude00"}\n': [{"a": 1}, {"b": "😀"}],
    '{"a":1}\n---\nb: 2\n': [{"a": 1}, {"b": 2}],
    "a: |\n  x\n  ---\n  y\n---\nb: c\n": [{"a": "x\n---\ny\n"}, {"b": "c"}],
    "a: b\n ---\nc: d\n": [{"a": "b ---", "c": "d"}],
    "---": [],
    "": [],
    # The reader also reads what kubectl skips: a document on the line of its marker, and CRs as line breaks.
    "--- {a: b}\n": [{"a": "b"}],
    "a: b\r---\rc: d\r": [{"a": "b"}, {"c": "d"}],
}


def value_of(text: str) -> Any:
    roots, error = read_documents(text)
    if not roots and error is not None:
        raise error
    return roots[0].value


@pytest.mark.parametrize("text", SCALARS)
def test_scalar_has_the_value_of_kubectl(text: str) -> None:
    assert equal(value_of(f"a: {text}\n"), {"a": SCALARS[text]})
    assert equal(value_of(f"- '{text}'\n"), [text])
    assert equal(value_of(f"a: !!str {text}\n"), {"a": text})


@pytest.mark.parametrize("text", DOCUMENTS)
def test_document_has_the_value_of_kubectl(text: str) -> None:
    assert equal(value_of(text), DOCUMENTS[text])


@pytest.mark.parametrize("what", REFUSED)
def test_document_that_kubectl_rejects_is_rejected(what: str) -> None:
    with pytest.raises(UnreadableError):
        value_of(REFUSED[what])


@pytest.mark.parametrize("text", STREAMS)
def test_stream_is_divided_into_its_documents(text: str) -> None:
    parts = list(split_stream(text))
    assert "".join(part for part, _ in parts) == text
    values = [value for part, line in parts for value in read_document(part, line).values]
    assert [value for value in values if value is not None] == STREAMS[text]


def test_lines_of_documents_are_counted() -> None:
    assert [line for _, line in split_stream("a: b\n---\n\nc: d\n---\n")] == [1, 2, 5]
    assert [line for _, line in split_stream('{"a":\n1}\n{"b":2}\n')] == [1, 2]


def test_error_names_the_line_in_the_file() -> None:
    _, error = read_documents("a: b\nc: d\ne: {{ x }}\n")
    assert error is not None
    assert error.line == 2


def test_nodes_have_their_positions_in_the_text() -> None:
    text = "a: &x 'b c' # d\né: |\n  😀\n  f\n\n\ng: [h,  i]\n"
    root = read_documents(text)[0][0]
    found = [text[node.start : node.end] for node in walk(root) if isinstance(node, Scalar)]
    assert found == ["a", "&x 'b c'", "é", "|\n  😀\n  f", "g", "h", "i"]
    assert text[root.start : root.end] == text[:-1]


def test_reader_works_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide libyaml, because PyYAML can be built without it."""
    text = "a: &x {b: c}\nd:\n- *x\n- |\n  e\n"
    fast = [(type(node), node.start, node.end) for node in walk(read_documents(text)[0][0])]
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    assert [(type(node), node.start, node.end) for node in walk(read_documents(text)[0][0])] == fast
