"""Define the command lines of a cluster's components, and write the files that they read."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.cluster.layout import CGROUP, FAMILIES, IPV4, ISSUER, NODE, PAUSE_IMAGE, Layout, of_each

CNI_PLUGINS = "/usr/lib/cni"
"""The folder of the CNI plugins in Debian."""

LONGEST_TOKEN = "24h"
"""The maximum lifetime of a service account token, as in EKS."""


class Component(NamedTuple):
    """A process of the cluster. `ready` is None, or a check that succeeds when the process is ready."""

    name: str
    command: list[str]
    ready: str | None = None


def control_plane(layout: Layout, kubelab: Path) -> list[Component]:
    """Return the components of the control plane in an order in which each component can start."""
    kubernetes = str(kubelab)
    return [
        etcd(layout, kubelab),
        api_server(layout, kubelab),
        Component("kube-controller-manager", [kubernetes, "kube-controller-manager", *_controllers(layout)]),
        Component("kube-scheduler", [kubernetes, "kube-scheduler", *_scheduler(layout)]),
    ]


def etcd(layout: Layout, kubelab: Path) -> Component:
    url = _etcd_url(layout)
    return Component("etcd", [str(kubelab), "etcd", *_etcd(layout, url)], f"{url}/health")


def api_server(layout: Layout, kubelab: Path, **changed: Any) -> Component:
    """Return an API server. `changed` are flags with other values. A list repeats the flag."""
    flags = _flags(**{**_apiserver(layout, _etcd_url(layout)), **changed})
    return Component("kube-apiserver", [str(kubelab), "kube-apiserver", *flags], f"{layout.server}/readyz")


def containerd(layout: Layout) -> Component:
    return Component("containerd", ["containerd", "--config", str(layout.state / "containerd.toml")])


def node(layout: Layout, kubelab: Path) -> list[Component]:
    kubernetes = str(kubelab)
    return [
        Component("kubelet", [kubernetes, "kubelet", *_kubelet(layout)]),
        Component("kube-proxy", [kubernetes, "kube-proxy", *_proxy(layout)]),
    ]


def write_node_files(layout: Layout) -> None:
    """Write the configuration files of the node, because no component accepts all its settings as flags."""
    network = layout.state / "cni"
    network.mkdir()
    (network / "10-test.conflist").write_text(json.dumps(_network(layout)))
    (layout.state / "containerd.toml").write_text(_containerd(layout, network))
    (layout.state / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_configuration(layout)))
    (layout.state / "resolv.conf").write_text("nameserver 127.0.0.1\n")


def _flags(**values: Any) -> list[str]:
    """Return flags: `service_account_issuer="x"` becomes `--service-account-issuer=x`."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return [f"--{name.replace('_', '-')}={value}" for name, each in lists.items() for value in each]


def _etcd_url(layout: Layout) -> str:
    return f"http://127.0.0.1:{layout.ports.etcd}"


def _etcd(layout: Layout, url: str) -> list[str]:
    peers = f"http://127.0.0.1:{layout.ports.etcd_peer}"
    flags = _flags(
        name="test",
        data_dir=layout.state / "etcd",
        listen_client_urls=url,
        advertise_client_urls=url,
        listen_peer_urls=peers,
        initial_advertise_peer_urls=peers,
        initial_cluster=f"test={peers}",
    )
    return [*flags, "--unsafe-no-fsync"]


def _apiserver(layout: Layout, etcd_url: str) -> dict[str, Any]:
    pki, is_full = layout.pki, layout.mode == "full"
    return dict(  # noqa: C408  the names of flags, as in the other functions
        etcd_servers=etcd_url,
        bind_address="::" if is_full else "127.0.0.1",
        secure_port=layout.ports.apiserver,
        advertise_address=IPV4.node if is_full else "127.0.0.1",
        endpoint_reconciler_type="lease" if is_full else "none",
        tls_cert_file=pki / "apiserver.crt",
        tls_private_key_file=pki / "apiserver.key",
        client_ca_file=pki / "ca.crt",
        service_account_issuer=ISSUER,
        service_account_jwks_uri=f"{ISSUER}/keys",
        service_account_key_file=pki / "service-accounts.pub",
        service_account_signing_key_file=pki / "service-accounts.key",
        service_account_max_token_expiration=LONGEST_TOKEN,
        api_audiences="https://kubernetes.default.svc",
        service_cluster_ip_range=of_each("services"),
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        kubelet_client_certificate=pki / "apiserver-to-kubelet.crt",
        kubelet_client_key=pki / "apiserver-to-kubelet.key",
        kubelet_preferred_address_types="InternalIP",
    )


def _controllers(layout: Layout) -> list[str]:
    return _flags(
        kubeconfig=layout.kubeconfig("controllers"),
        secure_port=0,
        leader_elect="false",
        service_account_private_key_file=layout.pki / "service-accounts.key",
        root_ca_file=layout.pki / "ca.crt",
        use_service_account_credentials="true",
    )


def _scheduler(layout: Layout) -> list[str]:
    return _flags(kubeconfig=layout.kubeconfig("scheduler"), secure_port=0, leader_elect="false")


def _kubelet(layout: Layout) -> list[str]:
    return _flags(
        config=layout.state / "kubelet.yaml",
        kubeconfig=layout.kubeconfig("node"),
        cert_dir=layout.state / "kubelet-pki",
        hostname_override=NODE,
        node_ip=of_each("node"),
        v=2,
    )


def _proxy(layout: Layout) -> list[str]:
    flags = _flags(
        kubeconfig=layout.kubeconfig("proxy"),
        proxy_mode="iptables",
        hostname_override=NODE,
        cluster_cidr=of_each("pods"),
        conntrack_max_per_core=0,
        conntrack_tcp_timeout_established=0,
        conntrack_tcp_timeout_close_wait=0,
    )
    return [*flags, "--masquerade-all"]


def _kubelet_configuration(layout: Layout) -> dict[str, Any]:
    """Return the kubelet's configuration for a shared machine: late evictions, and no common limit for all Pods."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(layout.pki / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP.format(layout.name)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "podLogsDir": str(layout.logs / "pods"),
        "resolvConf": str(layout.state / "resolv.conf"),
        # The kubelet renews projected tokens when it syncs a Pod. The default of a minute would make tests wait longer.
        "syncFrequency": "10s",
    }


def _network(layout: Layout) -> dict[str, Any]:
    """Return the CNI configuration: a bridge that connects the Pods only with the node."""
    ranges = [[{"subnet": family.pods}] for family in FAMILIES.values()]
    addresses = {"type": "host-local", "dataDir": str(layout.state / "addresses"), "ranges": ranges}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "isDefaultGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge]}


def _containerd(layout: Layout, network: Path) -> str:
    unused = [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")]
    return f"""\
version = 2
root = "{layout.containerd}/root"
state = "{layout.containerd}/state"
disabled_plugins = {json.dumps(["io.containerd.internal.v1.opt", *unused])}

[grpc]
address = "{layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{network}"
"""
