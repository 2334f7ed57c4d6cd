"""
Start and stop a Kubernetes cluster on this machine, and run commands in it for tests.

Each checkout has its own cluster for each version of Kubernetes, so several clusters can run at the same time. Other
machines cannot connect to a cluster. In full mode the cluster cannot connect to other machines, because its network
namespace has no route.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.subjects import free_port
from release.go_programs import CACHE
from tests.cluster import binaries, containerd
from tests.cluster.certificates import CLIENTS, Certificates
from tests.cluster.components import write_node_files
from tests.cluster.layout import CGROUP, FAMILIES, Layout, Mode, Ports
from tests.cluster.waiting import wait_until
from tests.support.prerequisites import require

REPOSITORY = Path(__file__).parents[2]

CHECKOUT = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
"""A hash of the checkout's path, which separates the clusters of several checkouts on one machine."""

NODE_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
}

SET_BY_KUBELET = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
"""The kernel settings that the kubelet changes on this machine. `down` restores them."""

STOPPED_SECONDS = 30.0

Done = subprocess.CompletedProcess[str]


class Cluster:
    """A running cluster. `kubeconfig` is the file of the administrator."""

    def __init__(self, kubectl: list[str], kubeconfig: Path, layout: Layout | None = None) -> None:
        self._kubectl = kubectl
        self.kubeconfig = kubeconfig
        self.layout = layout

    @property
    def has_node(self) -> bool:
        """Return whether the tests started the cluster's node, so that they can use its network and images."""
        return self.layout is not None and self.layout.mode == "full"

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        """
        Run kubectl until it exits.

        Raises AssertionError with the output if kubectl fails, unless `check` is False.
        """
        command = [*self.inside(), *self.kubectl_command(), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    def kustomize(self, folder: Path) -> str:
        """
        Return the objects of a kustomization, as the newest kubectl writes them.

        The component k8s/pod needs kustomize 5.1, and kubectl before 1.31 has kustomize 5.0.
        """
        newest = self._kubectl if self.layout is None else [str(binaries.kubelab(binaries.MINORS[-1])), "kubectl"]
        return subprocess.run([*newest, "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout

    def kubectl_command(self) -> list[str]:
        return [*self._kubectl, f"--kubeconfig={self.kubeconfig}"]

    def put_kubectl(self, folder: Path) -> None:
        """Write a program `kubectl` into the folder. The program reads KUBECONFIG, as the real kubectl does."""
        program = folder / "kubectl"
        program.write_text(f'#!/bin/sh\nexec {" ".join(self._kubectl)} "$@"\n')
        program.chmod(0o755)

    def get(self, *arguments: str) -> Any:
        """Return the object or the list that `kubectl get` returns."""
        return json.loads(self.kubectl("get", *arguments, "--output=json").stdout)

    def inside(self) -> list[str]:
        """Return the prefix for commands that run in the cluster's network, which has the Pods and Services."""
        return ["nsenter", f"--net=/proc/{_first_process(self.layout)}/ns/net", "--"] if self.has_node else []

    def load_image(self, archive: Path) -> None:
        """Load images into the node, from an archive of `docker save` or `podman save`."""
        assert self.layout is not None
        containerd.load_images(self.layout, archive)

    def kill_container(self, container: str) -> None:
        """Kill the container, as the kernel does when memory runs out. The Pod's status has the container's id."""
        assert self.layout is not None
        containerd.kill(self.layout, container)


def up(mode: Mode) -> Cluster:
    """
    Return this checkout's cluster, and start it if it is not running.

    Raises SystemExit if a prerequisite is missing, or if the cluster runs in the other mode.
    """
    running = find()
    if running is not None:
        assert running.layout is not None
        if running.layout.mode != mode:
            raise SystemExit(f"The cluster runs in {running.layout.mode} mode. Run python -m tests.cluster down.")
        return running
    _require(mode)
    down()  # remove the remains of a killed cluster
    binaries.kubelab()
    layout = _prepare(mode)
    _start(layout)
    return _cluster(layout)


def find() -> Cluster | None:
    """Return this checkout's cluster if it is running, or None."""
    state = _state()
    if not (state / "ready").exists() or _supervisor(state) is None:
        return None
    return _cluster(Layout.load(state))


def existing() -> Cluster:
    """Return the cluster that KUBECONFIG selects. It cannot run tests that need the node of this machine."""
    require({"kubectl": "kubectl"}, "CLUSTER=existing")
    if "KUBECONFIG" not in os.environ:
        raise SystemExit("CLUSTER is existing, but KUBECONFIG is not set. Set KUBECONFIG to the file of your cluster.")
    return Cluster(["kubectl"], Path(os.environ["KUBECONFIG"]))


def down() -> None:
    """Stop the cluster if it is running, and remove its files."""
    state = _state()
    if not state.exists():
        return
    if (pid := _supervisor(state)) is not None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _runs(pid), "the exit of the supervisor", seconds=STOPPED_SECONDS)
    wait_until(lambda: not _remaining_cgroups(state), "the exit of the Pods' processes", seconds=STOPPED_SECONDS)
    _restore_kernel_settings(state)
    shutil.rmtree(state)


def _cluster(layout: Layout) -> Cluster:
    return Cluster([str(binaries.kubelab()), "kubectl"], layout.kubeconfig(), layout)


def _state() -> Path:
    """
    Return the state folder of the selected version in this checkout.

    Its path is short, because a socket's path has at most 107 bytes.
    """
    return CACHE / "clusters" / f"{CHECKOUT}-{binaries.minor_version()}"


def _require(mode: Mode) -> None:
    if mode == "full":
        require(NODE_PROGRAMS, "A cluster with a node")
        if os.geteuid() != 0:
            raise SystemExit("A cluster with a node needs root for its containers. CLUSTER=control needs no root.")
        if not Path("/proc/net/if_inet6").exists():
            raise SystemExit(
                "A cluster with a node needs a kernel with IPv6 for its Pods. CLUSTER=control needs no IPv6."
            )


def _prepare(mode: Mode) -> Layout:
    """Write all files that the supervisor needs."""
    layout = Layout(_state(), mode, Ports() if mode == "full" else Ports(free_port(), free_port(), free_port()))
    layout.logs.mkdir(parents=True)
    certificates = Certificates(layout.pki)
    certificates.make_token_key()
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = [address for family in FAMILIES.values() for address in (family.node, family.apiserver)]
    certificates.make_server("apiserver", names, ["127.0.0.1", *addresses])
    for name, (user, group) in CLIENTS.items():
        certificates.make_client(name, user, group)
        certificates.write_kubeconfig(layout.kubeconfig(name), name, layout.server)
    if mode == "full":
        write_node_files(layout)
        _remember_kernel_settings(layout.state)
        for folder in _cgroup_roots():
            _make_cgroup(folder / CGROUP.format(layout.name))
    layout.save()
    return layout


def _start(layout: Layout) -> None:
    command = [sys.executable, "-m", "tests.cluster.supervisor", str(layout.state)]
    if layout.mode == "full":
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
    log = layout.logs / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    (layout.state / "pid").write_text(f"{process.pid} {_started_at(process.pid)}")
    while not layout.ready.exists():
        if process.poll() is not None:
            raise SystemExit(f"The cluster did not start: {log.read_text().strip()} (see {layout.logs})")
        time.sleep(0.1)
    process.returncode = 0  # the process continues after this program ends, so Python must not wait for it


def _supervisor(state: Path) -> int | None:
    """Return the process id of the supervisor, or None if the supervisor is not running."""
    try:
        pid, started_at = (state / "pid").read_text().split()
    except FileNotFoundError:
        return None
    return int(pid) if _runs(int(pid)) and _started_at(int(pid)) == started_at else None


def _first_process(layout: Layout | None) -> int:
    """Return the machine's id of the process that has the id 1 in its namespaces. It is the supervisor's only child."""
    assert layout is not None
    pid = _supervisor(layout.state)
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the process name (proc(5)). The name may contain any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _runs(pid: int) -> bool:
    """Return whether the process is running. A dead process may exist for a long time until its parent reaps it."""
    try:
        return _stat(pid)[0] not in "XZ"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _started_at(pid: int) -> str:
    """Return the start time in ticks since boot. A later process with the same id has another start time."""
    return _stat(pid)[19]


def _cgroup_roots() -> list[Path]:
    """Return the hierarchies of cgroups version 1, or the single hierarchy of version 2."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    return [folder for folder in top.iterdir() if folder.is_dir() and not folder.is_symlink()]


def _make_cgroup(group: Path) -> None:
    group.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        above, own = group.parent / setting, group / setting
        if above.exists() and own.exists():  # version 1 of cgroups leaves this file empty, and then no process can join
            own.write_text(above.read_text())


def _remaining_cgroups(state: Path) -> list[Path]:
    """Remove our empty cgroups, and return the cgroups that still have a process."""
    return [group for root in _cgroup_roots() if not _removed(group := root / CGROUP.format(state.name))]


def _removed(group: Path) -> bool:
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False
    return True


def _remember_kernel_settings(state: Path) -> None:
    """Store the kernel settings before the kubelet changes them. If another cluster is running, copy its values."""
    values = next(map(Path.read_text, _kernel_settings_of_others(state)), None)
    if values is None:
        values = json.dumps({name: Path("/proc/sys", name).read_text() for name in SET_BY_KUBELET})
    (state / "kernel.json").write_text(values)


def _restore_kernel_settings(state: Path) -> None:
    """Restore the kernel settings, unless another running cluster needs the settings of its kubelet."""
    if (file := state / "kernel.json").exists() and not _kernel_settings_of_others(state):
        values: Mapping[str, str] = json.loads(file.read_text())
        for name, value in values.items():
            Path("/proc/sys", name).write_text(value)


def _kernel_settings_of_others(state: Path) -> list[Path]:
    files = [file for file in state.parent.glob("*/kernel.json") if file.parent != state]
    return [file for file in files if (file.parent / "pid").exists() and _supervisor(file.parent) is not None]


def cluster_for_tests(wanted: str) -> Iterator[Cluster]:
    """
    Yield the running cluster, or a new cluster that stops after the tests.

    `wanted` is a mode, or `existing` for the cluster that KUBECONFIG selects.
    """
    if wanted == "existing":
        yield existing()
        return
    if (running := find()) is not None:
        yield running
        return
    modes: dict[str, Mode] = {"control": "control", "full": "full"}
    if wanted not in modes:
        raise SystemExit(f"CLUSTER is {wanted!r}: give full, control or existing.")
    try:
        yield up(modes[wanted])
    finally:
        down()
