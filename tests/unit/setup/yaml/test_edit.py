"""Test that edits change only the necessary lines and lead to the wanted value."""

import json
import re
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.injection.inject import inject
from sidecar.setup.document_changes import PodChange, document_edits
from sidecar.setup.manifests import ChangedStream, Workload, change_pods
from sidecar.setup.text_edits import with_edits
from sidecar.setup.yaml.edit import edits_for, equal
from sidecar.setup.yaml.emit import flow, inline
from sidecar.setup.yaml.reader import read_documents
from tests.unit.injection.pods import ARN, SETTINGS, pods
from tests.unit.setup.chart_shapes import SHAPES
from tests.unit.setup.yaml_styles import Writer

ROLE = SETTINGS._replace(role_arn=ARN)


def injected(pod: dict[str, Any]) -> dict[str, Any]:
    return inject(pod, None, ROLE).pod


def written(text: str) -> ChangedStream:
    def change(workload: Workload) -> dict[str, Any]:
        return injected(workload.pod)

    return change_pods(text, "m.yaml", change)


def value_of(text: str) -> Any:
    return read_documents(text)[0][0].value


def with_pod(value: Any) -> Any:
    """Return the object with a sidecar in its Pod."""
    if value["kind"] == "Pod":
        return injected(value)
    if value["kind"] == "List":
        return {**value, "items": [with_pod(each) for each in value["items"]]}
    if value["kind"] not in ("Deployment", "StatefulSet", "DaemonSet", "CronJob"):
        return value
    inner = dict(value["spec"])
    if value["kind"] == "CronJob":
        job = inner["jobTemplate"]
        inner["jobTemplate"] = {**job, "spec": {**job["spec"], "template": injected(job["spec"]["template"])}}
    else:
        inner["template"] = injected(inner["template"])
    return {**value, "spec": inner}


def assert_lines_stay(before: str, after: str) -> None:
    lines = iter(after.splitlines())
    removed = [line for line in before.splitlines() if "# replaced" not in line and line not in lines]
    assert removed == [], after


@pytest.mark.parametrize("shape", SHAPES)
def test_other_lines_of_the_text_stay_unchanged(shape: str) -> None:
    result = written(SHAPES[shape])
    assert_lines_stay(SHAPES[shape], result.text)
    assert equal(value_of(result.text), with_pod(value_of(SHAPES[shape])))
    assert result.notes == ()
    assert result.text.endswith("\n") == SHAPES[shape].endswith("\n")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_the_text_stay_unchanged(shape: str, newline: str) -> None:
    before = SHAPES[shape].replace("\n", newline)
    after = written(before).text
    assert after == written(SHAPES[shape]).text.replace("\n", newline)


@pytest.mark.parametrize("shape", SHAPES)
def test_second_run_changes_nothing(shape: str) -> None:
    once = written(SHAPES[shape]).text
    assert written(once).text == once


def in_a_workload(pod: dict[str, Any], kind: str) -> Any:
    if kind == "Pod":
        return pod
    labels = pod["metadata"]["labels"]
    template = {"metadata": pod["metadata"], "spec": pod["spec"]}
    found = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cart", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template, "paused": False, "replicas": 8},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}}
    return {"apiVersion": "v1", "kind": "List", "items": [found, service, found]} if kind == "List" else found


@given(
    pods(),
    st.sampled_from(["Pod", "Deployment", "List"]),
    st.integers(0, 2**32),
    st.sampled_from([(False, False), (False, True), (True, True)]),
)
def test_result_has_the_value_of_the_injected_object(
    pod: dict[str, Any], kind: str, seed: int, allowed: tuple[bool, bool]
) -> None:
    """Read the result with PyYAML, as YAML 1.1. Without aliases, the text is always edited in place, without a note."""
    has_aliases, has_flow = allowed
    value = json.loads(json.dumps(in_a_workload(pod, kind)))
    text = Writer(Random(seed), has_aliases=has_aliases, has_flow=has_flow).document(value)
    assert equal(yaml.load(text, yaml.CSafeLoader), value), text
    result = written(text)
    assert equal(yaml.load(result.text, yaml.CSafeLoader), with_pod(value)), f"{text}\n=====\n{result.text}"
    assert written(result.text).text == result.text
    if not has_aliases:
        assert result.notes == ()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 999) | st.sampled_from(["a", "no", "0400", "x: y", "# c", "l\nm", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner.map(lambda each: {"name": str(each)[:9], "x": each}), max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "yes", "1", "c d"]), inner, max_size=3)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(["k", "l", "m"]), plain, min_size=1, max_size=3)


@given(objects, objects, st.integers(0, 2**32), st.booleans(), st.booleans())
def test_any_value_can_become_any_other_value(
    before: dict[str, Any],
    after: dict[str, Any],
    seed: int,
    has_aliases: bool,  # noqa: FBT001
    has_flow: bool,  # noqa: FBT001
) -> None:
    text = Writer(Random(seed), has_aliases=has_aliases, has_flow=has_flow).document(before)
    assert equal(value_of(text), before), text
    result = document_edits(text, [PodChange(0, (), "x", after)])
    assert equal(yaml.load(with_edits(text, result.edits), yaml.CSafeLoader), after), text


@given(objects, objects, st.sampled_from([None, 2, 4, "\t"]), st.booleans())
def test_json_text_remains_json(
    before: dict[str, Any],
    after: dict[str, Any],
    indent: int | str | None,
    is_ascii: bool,  # noqa: FBT001
) -> None:
    text = json.dumps({**before, "z": "😀"}, indent=indent, ensure_ascii=is_ascii)
    result = document_edits(text, [PodChange(0, (), "x", {**after, "z": "😀"})])
    assert equal(json.loads(with_edits(text, result.edits)), {**after, "z": "😀"})


@pytest.mark.parametrize("indent", ["\t", " ", ""])
@pytest.mark.parametrize(
    "escaped",
    [
        r"\ud83d\ude00",
        r"  \ud83d\ude00  \uD83D\uDE01",
        r"\\ud83d",
        r"\\\ud83d\ude00\\",
        r"\ud83d",
        r"\ude00\ud83d x",
        r"\/",
    ],
)
def test_json_that_libyaml_rejects_is_edited_in_place(escaped: str, indent: str) -> None:
    """Use tabs and escaped surrogates, which are valid in JSON. A lone surrogate becomes U+FFFD, as in Go."""
    text = f'{{\n{indent}"kind": "Pod",\n{indent}"a": ["{escaped}", 1 ],\n{indent}"b": {{"c":\t"d"}}\n}}\n'
    old = json.loads(text)["a"][0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    result = document_edits(text, [PodChange(0, (), "x", {"kind": "Pod", "a": [old, 1], "b": {"c": "e"}})])
    assert with_edits(text, result.edits) == text.replace('"d"', '"e"')


def test_second_run_keeps_rewritten_json() -> None:
    pod = '{"kind":"Pod","metadata":{"labels":{"\\ud83d\\ude00":"x"}},"spec":{"containers":[{"name":"a\\u0080"}]}}'
    text = f"{pod}{pod}\n"
    once = written(text).text
    assert written(once).text == once


def test_surrogate_pairs_stay_in_json_that_is_rewritten() -> None:
    """Use U+2028, which is a line break in YAML. A YAML key must not contain a line break."""
    labels = '{"a\u2028": "\\ud83d\\ude00", "b": "\\ud83d"}'
    text = f'{{"kind":"Pod","metadata":{{"labels":{labels}}},"spec":{{"containers":[{{"name":"a"}}]}}}}'
    result = json.loads(written(text).text)
    assert result["metadata"]["labels"] == {"a\u2028": "😀", "b": "\ufffd"}


IN_PLACE: dict[str, tuple[str, Any, str]] = {
    "a key is added after the last key": (
        "a:\n  b: c # d\n\n# e\n",
        {"a": {"b": "c", "f": [1]}},
        "a:\n  b: c # d\n  f:\n  - 1\n\n# e\n",
    ),
    "an item is added in front of a comment": ("a:\n# b\n- b\n", {"a": ["x", "b"]}, "a:\n- x\n# b\n- b\n"),
    "an item is removed": ("a:\n- b # c\n- d\n", {"a": ["d"]}, "a:\n- d\n"),
    "the last item is removed": ("a:\n- b # c\n", {"a": []}, "a: [] # c\n"),
    "a key is removed": ("a: 0400\nb: no\nc: d\n", {"a": 256, "c": "d"}, "a: 0400\nc: d\n"),
    "a scalar keeps its quotes": ("a: 'b' # c\n", {"a": "d"}, 'a: "d" # c\n'),
    "null becomes a list": ("a: # b\nc: d\n", {"a": ["e"], "c": "d"}, "a: # b\n- e\nc: d\n"),
    "an empty list is filled": ("a: [] # b\n", {"a": [{"b": "c"}]}, "a: # b\n- b: c\n"),
    "an item is added in brackets": ("a: [b, c] # d\n", {"a": ["b", "e", "c"]}, "a: [b, e, c] # d\n"),
    "a comma at the end stays": ("a: {b: c,}\n", {"a": {"b": "c", "d": "e"}}, "a: {b: c, d: e,}\n"),
    "braces on several lines": ("a: {\n  b: c # d\n}\n", {"a": {"b": "c", "d": "e"}}, "a: {\n  b: c,\n  d: e # d\n}\n"),
    "an alias keeps its meaning": ("a: &x [b]\nc: *x\n", {"a": ["b", "d"], "c": ["b"]}, "a: &x [b, d]\nc:\n- b\n"),
    "a merge key keeps its value": (
        "a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n",
        {"a": {"b": 3}, "c": {"b": 1, "d": 2}},
        "a: &x {b: 3}\nc:\n  <<: *x\n  d: 2\n  b: 1\n",
    ),
    "a key that was merged is removed": (
        "a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n",
        {"a": {"b": 1}, "c": {"d": 2}},
        "a: &x {b: 1}\nc:\n  d: 2\n",
    ),
    "no line break at the end": ("a:\n  - b", {"a": ["b", "c"], "d": "e"}, "a:\n  - b\n  - c\nd: e"),
    "kept lines of a block scalar": ("a:\n- |+\n  b\n\n", {"a": ["b\n\n", "c"]}, "a:\n- |+\n  b\n\n- c\n"),
    "a list in a list": ("- - a\n  - b\n", [["a", "b", "c"], "d"], "- - a\n  - b\n  - c\n- d\n"),
    "an explicit key": ("? a\n: b\n", {"a": "b", "c": "d"}, "? a\n: b\nc: d\n"),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_edit_changes_the_text_in_place(what: str) -> None:
    before, wanted, after = IN_PLACE[what]
    roots, _ = read_documents(before)
    assert with_edits(before, edits_for(before, [(roots[0], wanted)])) == after


def test_pod_that_cannot_be_edited_is_written_as_new_text() -> None:
    """Use a block scalar at the end of a file without a final line break. A new line would add a line break to it."""
    text = "kind: Pod # kept\nspec:\n  containers:\n  - name: app\n    args:\n    - |\n      run"
    result = written(text)
    assert equal(value_of(result.text), injected(value_of(text)))
    assert "written as new text without" in result.notes[0]


AS_YAML_1_1 = [
    (
        "{apiVersion: v1, kind: Pod, spec: {hostPID: no, containers: [{name: a, stdin: yes, tty: off}], volumes: [&v "
        "{name: s, secret: {defaultMode: 0400}}]}}\n"
    ),
    (
        "kind: Pod\nmetadata: {annotations: {kubectl.kubernetes.io/restartedAt: 2024-05-06T07:08:09Z}}\n"
        "spec:\n  hostNetwork: no\n  containers:\n  - {name: a, env: &env [{name: A, value: b}]}\n"
        "  - {name: b, env: *env}\n  volumes:\n  - {name: c, configMap: {defaultMode: 0755}}\n"
    ),
    (
        "kind: Pod\nspec:\n  containers:\n  - &base {name: a, image: x}\n  - <<: *base\n    name: b\n    stdin: y\n"
        "  volumes: [{name: s, secret: {defaultMode: 0o400}}]\n"
    ),
    '{"kind": "Pod", "spec": {"containers": [{"name": "a", "tty": off}], "volumes": [{"name": "s", "x": 0400}]}}\n',
]


@pytest.mark.parametrize("text", AS_YAML_1_1)
def test_yaml_1_1_scalars_stay_as_written(text: str) -> None:
    result = written(text)
    assert equal(value_of(result.text), injected(value_of(text)))
    assert result.notes == ()
    scalars = re.compile(r"\b(?:0o?[0-9]+|no|yes|off|y|2024-[-0-9T:]+Z)(?=[,}\s])")
    assert [each for each in scalars.findall(result.text) if each != "no"][:9] == [
        each for each in scalars.findall(text) if each != "no"
    ]
    assert result.text.count(": no") == text.count(": no")


TEXTS = ["0400", "0o400", "no", "y", "1:30", "1_000", "2024-05-06", "~", "null", "<<", "=", "1e3", "0x1f", ".inf", "+1"]
TEXTS += [
    "a: b",
    "a #b",
    "- a",
    "a:",
    " a",
    "",
    "a\nb",
    "\x85",
    "\u2028",
    "\ufeff",
    "😀",
    "\x7f",
    "{{ x }}",
    "%a",
    "@a",
]
TEXTS += [
    "plain",
    "a/b:1",
    "http://a:1/b",
    "arn:aws:iam::1:role/a",
    "10m",
    "127.0.0.1",
    "a,b",
    "1,5",
    "--wait",
    "'",
    '"',
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_reader_reads_the_written_text_as_text(text: str) -> None:
    for line in (f"{inline(text)}: {inline(text)}\n", flow({text: [text]})):
        assert yaml.safe_load(line) in ({text: text}, {text: [text]})
        assert value_of(line) in ({text: text}, {text: [text]})
    is_plain_in_1_2 = inline(text) == text
    assert not (is_plain_in_1_2 and text.lower() in ("no", "y", "0400", "0o400", "1e3"))


@pytest.mark.parametrize("number", [0, 256, -1, 1.5, 1e22, 1e-7, 2**63, True, False, None, float("inf")])
def test_every_reader_reads_the_written_number(number: Any) -> None:
    assert equal(yaml.safe_load(inline(number)), number)
    assert equal(value_of(inline(number) + "\n"), number)
