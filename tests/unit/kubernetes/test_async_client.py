"""Test the webhook's connection to the API server, over TLS with the cluster's own authority."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.async_client import open_api
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.support.exchanges import Authority, scripted
from tests.support.fakes.api_server import api_server
from tests.support.fakes.api_server import kubeconfig as fake_kubeconfig
from tests.support.fakes.scripted_sts import Reply

pytestmark = pytest.mark.usefixtures("no_proxies")

FOUND = Reply(200, b'{"kind": "Namespace"}')


def kubeconfig(directory: Path, server: str) -> dict[str, str]:
    """Write a kubeconfig that names a file with the authority, as in a Pod, and return the environment for it."""
    document = {
        "clusters": [{"name": "a", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "a", "user": {"token": "secret"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(document))
    return {"KUBECONFIG": str(directory / "kubeconfig")}


async def test_rotated_authority_works_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(Path(old.bundle).read_bytes())
    async with (
        scripted(FOUND, tls=new.server("127.0.0.1")) as server,
        open_api(find_cluster(kubeconfig(tmp_path, server.url))) as api,
    ):
        for content in (None, b"", b"half"):
            if content is not None:
                ca.write_bytes(content)
            with pytest.raises(KubernetesError, match="certificate verify failed"):
                await api.get("/api/v1/namespaces/shop")
        ca.write_bytes(Path(new.bundle).read_bytes())
        assert await api.get("/api/v1/namespaces/shop") == {"kind": "Namespace"}


async def test_kubeconfig_without_its_authority_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Context a of the kubeconfig cannot be used"):
        async with open_api(find_cluster(kubeconfig(tmp_path, "https://127.0.0.1:1"))):
            raise AssertionError


@pytest.mark.parametrize("items", [[], [{"metadata": {}}]])
async def test_endless_list_is_an_error(tmp_path: Path, items: list[Any]) -> None:
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(fake_kubeconfig(fake.url)))
        fake.broken["/api/v1/pods"] = (200, {"items": items, "metadata": {"continue": "x"}})
        async with open_api(find_cluster({"KUBECONFIG": str(tmp_path / "kubeconfig")})) as api:
            with pytest.raises(KubernetesError, match="context lab sends an endless list of /api/v1/pods"):
                await api.list("/api/v1/pods", {}, lambda document: document)
    assert len(fake.requests) == 2
