"""Provide an API server with a Pod, and a kubeconfig for that server, for doctor's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.doctor.pod_document import POD, PODS, READY


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fake.put(f"{PODS}/cart", POD)
        fake.documents[READY] = b"ok"
        yield fake


@pytest.fixture
def environ(api: FakeApiServer, tmp_path: Path, no_proxies: None) -> dict[str, str]:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
    return {"KUBECONFIG": str(tmp_path / "kubeconfig")}
