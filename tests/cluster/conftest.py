"""
A real cluster, and AWS's side of it, for the tests of this folder. Not part of `make test`.

CLUSTER says which. `full` (the default) or `control` is started here, unless `python -m tests.cluster up` did so
before; `existing` is the one that KUBECONFIG names. Tests that ask for `node` are skipped where no node is ours.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import REPOSITORY, Cluster, cluster_for_tests
from tests.cluster.namespace import Namespace, new_namespace
from tests.cluster.sts import ClusterSts, cluster_sts
from tests.image.engine import find_engine

IMAGE = "irsa-sidecar:cluster-test"
"""What Pods of tests run; `-tools` follows for the image of the tools, and `-app` for that of an application."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    yield from cluster_for_tests(os.environ.get("CLUSTER", "full"))


@pytest.fixture(scope="session")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster, with a node that has the images of this checkout."""
    if not cluster.has_node:
        pytest.skip("needs a node of ours: CLUSTER=full")
    cluster.load_image(_images(tmp_path_factory.mktemp("images") / "images.tar"))
    return cluster


@pytest.fixture(scope="session")
def sts(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSts]:
    with cluster_sts(cluster, tmp_path_factory.mktemp("sts")) as serving:
        yield serving


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A new one, as strict as Pod Security has it, with the ServiceAccount `app`."""
    with new_namespace(cluster) as made:
        yield made


def _images(archive: Path) -> Path:
    """An archive of the images of this checkout. Building them anew takes seconds when nothing changed."""
    engine = find_engine()
    _run("make", "--silent", "images", f"IMAGE={IMAGE}", f"ENGINE={engine}")
    names = [IMAGE, f"{IMAGE}-tools"]
    save = [engine, "save", "--output", str(archive)]
    _run(*save, *(["--multi-image-archive", "--format", "docker-archive"] if "podman" in engine else []), *names)
    return archive


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
