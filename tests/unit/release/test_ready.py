"""Test the conditions for a release of a commit under a tag, and the permissions of workflows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from release.images import base_in
from release.ready import problems

REPOSITORY = Path(__file__).parents[3]

PINNED = f"ARG BASE=python:3.13@sha256:{'0' * 64}\nFROM ${{BASE}}\n"

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def workflow(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true, which does not matter here.
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def test_commit_with_the_tag_of_its_version_is_ready() -> None:
    assert list(problems("v1.0.0", "1.0.0", [], PINNED)) == []


@pytest.mark.parametrize(
    ("tag", "fragments", "dockerfile", "named"),
    [
        ("v1.0.1", [], PINNED, "v1.0.1"),
        ("1.0.0", [], PINNED, "v1.0.0"),
        ("v1.0.0", ["16.added.md"], PINNED, "16.added.md"),
        ("v1.0.0", [], "ARG BASE=python:3.13\n", "digest"),
    ],
)
def test_each_reason_against_a_release_is_reported(tag: str, fragments: list[str], dockerfile: str, named: str) -> None:
    (problem,) = problems(tag, "1.0.0", fragments, dockerfile)
    assert named in problem


def test_base_of_the_dockerfile_is_pinned() -> None:
    assert "@sha256:" in base_in((REPOSITORY / "Dockerfile").read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_gives_permissions_only_to_jobs(path: Path) -> None:
    document = workflow(path)
    assert document["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in document["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_make_targets_of_a_workflow_exist(path: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    steps = [step for job in workflow(path)["jobs"].values() for step in job["steps"]]
    for command in [step["run"] for step in steps if step.get("run", "").startswith("make ")]:
        for target in [word for word in command.split()[1:] if word[0].isalpha() and "=" not in word]:
            assert f"\n{target}:" in makefile, f"{path.name} runs `make {target}`"


def test_only_publishing_jobs_have_write_permissions() -> None:
    """Check that the pushing jobs of a release start after other jobs. Only the workflow `docs` may also write."""
    writers = {(path.stem, name): rights for path in WORKFLOWS for name, rights in _rights_to_write(path).items()}
    assert {stem for stem, _ in writers} == {"release", "docs"}
    release = workflow(REPOSITORY / ".github" / "workflows" / "release.yml")["jobs"]
    pushing = {name for (stem, name), rights in writers.items() if stem == "release" and rights & PUSHING}
    assert pushing == {"registry", "github"}
    assert all(release[name]["needs"] for name in pushing)


PUSHING = {"contents", "packages"}
"""The permissions to change the repository, its releases and its registry."""


def _rights_to_write(path: Path) -> dict[str, set[str]]:
    jobs = workflow(path)["jobs"].items()
    found = {name: {right for right, level in job["permissions"].items() if level == "write"} for name, job in jobs}
    return {name: rights for name, rights in found.items() if rights}
