"""Test that docs/doctor.md matches doctor."""

import argparse
import json
import re
from pathlib import Path

from sidecar.commands import doctor as command
from sidecar.doctor.finding import Row, Status, failed
from sidecar.doctor.location import Side
from sidecar.doctor.report import Report, as_json
from tests.unit.doctor.broken_set_ups import BROKEN

DOCUMENT = Path(__file__).parents[3] / "docs" / "doctor.md"


def test_broken_set_ups_have_different_names() -> None:
    assert len({row.what for row in BROKEN}) == len(BROKEN) >= 30


def test_document_names_every_json_field() -> None:
    report = Report(Side.SIDECAR, (Row("token", "file", failed("gone", "bring it back")),), {})
    document = json.loads(as_json(report))
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*document, *document["first_failure"]):
        assert f"`{name}`" in text
    for value in [status.value for status in Status] + [side.value for side in Side]:
        assert f"`{value}`" in text


def test_document_names_every_flag() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    command.add_arguments(parser)
    flags = re.compile(r"--[a-z-]+")
    assert set(flags.findall(parser.format_usage())) <= set(flags.findall(DOCUMENT.read_text(encoding="utf-8")))
