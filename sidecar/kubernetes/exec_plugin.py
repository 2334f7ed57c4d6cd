"""
Run the login plugin of a kubeconfig's user, and read its output (Kubernetes reference, client authentication v1).

Rule: the plugin gets the same input as from kubectl. The input is the caller's environment, the variables in `exec.env`
and KUBERNETES_EXEC_INFO, which includes the cluster if `provideClusterInfo` is set.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lightkube.config.kubeconfig import SingleConfig

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.kubeconfig_entries import ClusterEntry, Plugin

SHOWN_CHARACTERS = 2_000
"""Maximum length of a plugin's stderr in a message, in characters."""


class PluginCredential(NamedTuple):
    """The output of a plugin. `expires_at` is in Unix seconds, or None if the plugin states no expiration."""

    token: str | None
    certificate: str | None
    key: str | None
    expires_at: float | None


def run_plugin(config: SingleConfig, plugin: Plugin) -> PluginCredential:
    """
    Run the plugin, and return its credential.

    Raises ConfigurationError if the plugin cannot be run, fails, or prints no valid credential.
    """
    interactive = _is_interactive(config, plugin)
    info = {"kind": "ExecCredential", "apiVersion": plugin.apiVersion, "spec": _spec(config, plugin, interactive)}
    environ = {**os.environ, **{each.name: each.value for each in plugin.env or ()}}
    environ["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    try:
        done = subprocess.run(  # noqa: S603  a list without a shell, from the user's own kubeconfig
            [plugin.command, *(plugin.args or ())],
            env=environ,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if interactive else subprocess.PIPE,
            check=False,
        )
    except (OSError, ValueError) as exc:
        hint = (plugin.installHint or "").strip() or "Install the plugin, or correct PATH."
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise _unusable(config, f"exec.command {plugin.command} cannot be run ({reason})", fix=hint) from exc
    if done.returncode:
        stderr = (done.stderr or b"").decode("utf-8", "replace").strip()[:SHOWN_CHARACTERS]
        raise _unusable(
            config,
            f"exec.command {plugin.command} ended with {done.returncode}{f': {stderr}' if stderr else ''}",
            fix="Log in again, and check that `kubectl get pods` works",
        )
    return _read(config, plugin, done.stdout)


def _is_interactive(config: SingleConfig, plugin: Plugin) -> bool:
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    if plugin.interactive_mode == "Always" and not is_terminal:
        problem = "exec.interactiveMode is Always, and stdin is not a terminal"
        raise _unusable(config, problem, fix="Run this on a terminal")
    return is_terminal and plugin.interactive_mode != "Never"


def _spec(config: SingleConfig, plugin: Plugin, interactive: bool) -> Mapping[str, Any]:  # noqa: FBT001
    spec: dict[str, Any] = {"interactive": interactive}
    cluster = config.cluster
    if plugin.provide_cluster_info and isinstance(cluster, ClusterEntry):
        spec["cluster"] = _cluster_info(config, cluster)
    return spec


def _cluster_info(config: SingleConfig, cluster: ClusterEntry) -> dict[str, Any]:
    data = cluster.certificate_auth_data
    if data is None and cluster.certificate_auth:
        try:
            data = base64.b64encode(Path(cluster.certificate_auth).read_bytes()).decode()
        except OSError as exc:
            raise _unusable(
                config,
                f"certificate-authority {cluster.certificate_auth} cannot be read ({exc.strerror})",
                fix="Correct its path",
            ) from exc
    info = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure,
        "certificate-authority-data": data,
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": cluster.plugin_config,
    }
    return {name: value for name, value in info.items() if value not in (None, "", False)}


def _read(config: SingleConfig, plugin: Plugin, printed: bytes) -> PluginCredential:
    try:
        document = json.loads(printed)
        status, version = document["status"], document.get("apiVersion", plugin.apiVersion)
        found = PluginCredential(
            status.get("token"),
            status.get("clientCertificateData"),
            status.get("clientKeyData"),
            _unix_seconds(status.get("expirationTimestamp")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        # The message does not quote the output, because it may hold a token.
        raise _unusable(
            config,
            f"exec.command {plugin.command} printed something other than an ExecCredential",
            fix="Run the command by hand to see its output",
        ) from exc
    if version != plugin.apiVersion:
        raise _unusable(
            config,
            f"exec.command {plugin.command} responded in {version}, and exec.apiVersion is {plugin.apiVersion}",
            fix="Create the entry again with the plugin's own command",
        )
    if not found.token and not (found.certificate and found.key):
        raise _unusable(
            config,
            f"exec.command {plugin.command} printed neither a token nor a certificate with its key",
            fix="Run the command by hand to see its output",
        )
    return found


def _unix_seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _unusable(config: SingleConfig, problem: str, *, fix: str) -> ConfigurationError:
    context = f"Context {config.context_name} of the kubeconfig"
    return ConfigurationError(f"{context} has no usable login: {problem}", fix=fix)
