"""Provide an API server with a Pod whose daemon responds, and a client for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.kubernetes.client import Kubernetes, open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.serving.status import as_document
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.doctor.pod_document import POD, PODS
from tests.unit.serving.test_status import DAEMON, HEALTHY

STATUS = f"{PODS}/cart:4773/proxy/status"

READY = json.dumps(as_document(DAEMON._replace(roles=(HEALTHY,)))).encode()


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fake.put(f"{PODS}/cart", POD)
        fake.proxied[STATUS] = lambda: (200, READY)
        yield fake


@pytest.fixture
def environ(api: FakeApiServer, tmp_path: Path, no_proxies: None) -> dict[str, str]:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    return {"KUBECONFIG": str(tmp_path / "kubeconfig")}


@pytest.fixture
def kubernetes(environ: dict[str, str]) -> Iterator[Kubernetes]:
    with open_cluster(find_cluster(environ)) as found:
        yield found
