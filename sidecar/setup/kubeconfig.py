"""
Which cluster a person means: the kubeconfig files as kubectl reads them, else the Pod's own service account.

Rule: of several files the first to say a thing is right (Kubernetes documentation, Organizing Cluster Access Using
kubeconfig Files), and a relative path in one is relative to that file. lightkube knows what a user entry means, plugins
included; it reads one file and no exec plugin of v1, so both are brought into its form here.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from msgspec import ValidationError

from sidecar.errors import ConfigurationError

DEFAULT_FILE = "~/.kube/config"

_PATH_KEYS = ("certificate-authority", "client-certificate", "client-key")
_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_EXEC_V1 = "client.authentication.k8s.io/v1"


def find_cluster(environ: Mapping[str, str], context: str | None = None) -> SingleConfig:
    """The cluster of `context`, else of the current one. Raises ConfigurationError."""
    named = [*_files(environ)]
    files = [path for path in named if path.is_file()]
    if not files and "KUBERNETES_SERVICE_HOST" in environ and Path(SERVICE_ACCOUNT).is_dir():
        return _in_cluster()
    if not files:
        raise ConfigurationError(
            f"There is no kubeconfig at {', '.join(map(str, named)) or DEFAULT_FILE}: set KUBECONFIG to one, or make "
            "it, on EKS with `aws eks update-kubeconfig --name CLUSTER`."
        )
    where = ", ".join(map(str, files))
    try:
        config = KubeConfig.from_dict(merged([(path, _read(path)) for path in files]), fname=files[0])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, ValidationError) as exc:
        raise ConfigurationError(
            f"The kubeconfig {where} is not in the form that kubectl reads ({exc}): `kubectl config view` shows it."
        ) from exc
    return _selected(config, context)


def merged(files: list[tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """One kubeconfig of several, in lightkube's form."""
    found: dict[str, Any] = {"current-context": None}
    for key, inner in _LISTS.items():
        entries: dict[str, Any] = {}
        for path, content in files:
            for entry in content.get(key) or ():
                entries.setdefault(entry["name"], {"name": entry["name"], inner: _resolved(path, entry[inner])})
        found[key] = list(entries.values())
    found["current-context"] = next((c["current-context"] for _, c in files if c.get("current-context")), None)
    return found


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    for name in (environ.get("KUBECONFIG") or DEFAULT_FILE).split(os.pathsep):
        with suppress(RuntimeError):  # of a user without a home, as in a container
            if name:
                yield Path(name).expanduser()


def _in_cluster() -> SingleConfig:
    """As the Pod's own service account."""
    try:
        return _selected(KubeConfig.from_service_account(SERVICE_ACCOUNT), None)
    except (ConfigError, KeyError, OSError) as exc:
        raise ConfigurationError(
            f"The Pod's service account cannot be used ({exc}): is automountServiceAccountToken false? Let it be "
            f"mounted at {SERVICE_ACCOUNT}."
        ) from exc


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except Exception as exc:  # PyYAML raises ValueError, OverflowError and RecursionError besides its own errors
        # The text of a parser's error quotes the file, which may hold a token.
        why = exc.strerror if isinstance(exc, OSError) else "it is no YAML"
        raise ConfigurationError(f"The kubeconfig {path} cannot be read ({why}): mend it, or set KUBECONFIG.") from exc
    if not isinstance(content, dict):
        raise ConfigurationError(f"The kubeconfig {path} is no mapping: mend it, or set KUBECONFIG.")
    return content


def _resolved(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A cluster, user or context, its paths absolute and its plugin one that lightkube runs."""
    absolute = {key: str(path.absolute().parent / entry[key]) for key in _PATH_KEYS if entry.get(key)}
    plugin = {"exec": _plugin(entry["exec"])} if entry.get("exec") else {}
    return {**entry, **absolute, **plugin}


def _plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """
    v1 and v1beta1 differ in what the plugin is told, and answer alike (reference, client authentication v1). It is told
    which one is spoken, as client-go tells it; lightkube does not.
    """
    version = plugin.get("apiVersion", _EXEC_V1)
    told = {"kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": False}}
    env = [*(plugin.get("env") or ()), {"name": "KUBERNETES_EXEC_INFO", "value": json.dumps(told)}]
    return {**plugin, "apiVersion": f"{_EXEC_V1}beta1" if version == _EXEC_V1 else version, "env": env}


def _selected(config: KubeConfig, context: str | None) -> SingleConfig:
    try:
        found = config.get(context)
    except (ConfigError, KeyError) as exc:
        known = ", ".join(sorted(config.contexts)) or "none"
        asked = f"has no usable context {context}" if context else "names no usable current context"
        raise ConfigurationError(
            f"The kubeconfig {asked} ({exc}): there are {known}; choose one with --context or "
            "`kubectl config use-context`."
        ) from exc
    assert found is not None
    # lightkube insists on a user; a context without one is anonymous.
    return found if found.user is not None else found._replace(user=User())
