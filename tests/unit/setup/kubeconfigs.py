"""Write kubeconfig files, and send requests with them."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from sidecar.kubernetes.client import open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.support.fakes.api_server import kubeconfig

NAME = "abc.gr7.eu-west-1.eks.amazonaws.com"
PATH = "/version"


def written(path: Path, url: str, cluster: Any = None, user: Any = None) -> dict[str, str]:
    document = kubeconfig(url, user)
    document["clusters"][0]["cluster"] |= cluster or {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return {"KUBECONFIG": str(path)}


def get_version(environ: dict[str, str]) -> Any:
    with open_cluster(find_cluster(environ)) as kubernetes:
        return kubernetes.get(PATH)


def plugin(status: Any = None, more: str = "", **fields: Any) -> dict[str, Any]:
    """Return a kubeconfig's user with a login plugin. The plugin runs the code `more` and prints this status."""
    response = json.dumps({"status": {"token": "t"} if status is None else status})
    program = f"import json, os, sys\n{more}\nprint({response!r})"
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
        **fields,
    }
    return {"exec": {name: value for name, value in entry.items() if value is not None}}
