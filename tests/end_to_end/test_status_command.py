"""Test `irsa-sidecar status` as a process, with real daemons, an API server that passes requests on, and a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trio
import yaml

from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.scripted_sts import error_reply
from tests.support.processes import GUARD_SECONDS, Running, get, pod_environment, run_daemon, scripted_sts
from tests.unit.doctor.pod_document import POD, PODS

COMMAND = [sys.executable, "-m", "sidecar", "status"]


@asynccontextmanager
async def ready_daemon(tmp_path: Path) -> AsyncIterator[Running]:
    async with scripted_sts() as sts, run_daemon(pod_environment(tmp_path / "token", sts.url)) as running:
        await running.logged("credentials_refreshed")
        yield running


@asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[FakeApiServer]:
    with api_server() as api:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api.url)))
        yield api


def add_pod(api: FakeApiServer, name: str, running: Running) -> None:
    """Add a Pod whose admin port is that of the daemon."""
    url = running.ready_url.replace("/readyz", "/status")
    pod: dict[str, Any] = deepcopy(POD)
    pod["metadata"]["name"] = name
    port = url.rpartition(":")[2].partition("/")[0]
    pod["spec"]["initContainers"][0]["env"].append({"name": "IRSA_SIDECAR_ADMIN_LISTEN", "value": f":{port}"})
    api.put(f"{PODS}/{name}", pod)

    def respond() -> tuple[int, bytes]:
        with urlopen(url, timeout=GUARD_SECONDS) as response:
            return response.status, response.read()

    api.proxied[f"{PODS}/{name}:{port}/proxy/status"] = respond


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IRSA_", "HTTP"))}
    return kept | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}


async def status(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    with trio.fail_after(GUARD_SECONDS):
        return await trio.run_process(
            [*COMMAND, *arguments],
            env=environment(tmp_path),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


def admin(running: Running) -> str:
    return running.ready_url.split("/")[2]


async def test_daemon_in_this_pod_is_shown(tmp_path: Path) -> None:
    async with ready_daemon(tmp_path) as running:
        await get(running.url)
        text = await status(tmp_path, "--admin-listen", admin(running))
        document = await status(tmp_path, "--admin-listen", admin(running), "--json")
    assert (text.returncode, document.returncode, text.stderr) == (0, 0, b"")
    assert b"\ncart  ready" in text.stdout
    assert all(len(line) <= 80 for line in text.stdout.splitlines())
    assert json.loads(document.stdout)["roles"][0]["state"] == "ready"


async def test_pods_of_the_namespace_are_shown_with_their_problems(tmp_path: Path) -> None:
    denied = error_reply(403, "AccessDenied", "Not authorized to perform x")
    async with (
        cluster(tmp_path) as api,
        ready_daemon(tmp_path) as well,
        scripted_sts(denied) as sts,
        run_daemon(pod_environment(tmp_path / "token", sts.url)) as broken,
    ):
        await broken.logged("refresh_failed")
        add_pod(api, "well", well)
        healthy = await status(tmp_path, "--namespace", "shop")
        add_pod(api, "broken", broken)
        all_pods = await status(tmp_path, "-A")
        document = json.loads((await status(tmp_path, "-n", "shop", "--json")).stdout)
        one = await status(tmp_path, "--pod", "shop/broken")
    assert (healthy.returncode, healthy.stderr) == (0, b"")
    assert healthy.stdout.endswith(b"1 Pod in namespace shop, context lab: 1 ready.\n")
    assert (all_pods.returncode, one.returncode) == (1, 1)
    assert b"shop/broken: AccessDenied: Not authorized to perform x" in all_pods.stdout
    assert {pod["pod"]: pod["state"] for pod in document["pods"]} == {"well": "ready", "broken": "unavailable"}
    assert b"ASIA" not in all_pods.stdout + healthy.stdout


async def test_plugin_of_kubectl_reads_the_namespace_of_the_context(tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-irsa_sidecar"
    plugin.write_text(f"#!{sys.executable}\nfrom sidecar.__main__ import main\nraise SystemExit(main())\n")
    plugin.chmod(0o755)
    async with cluster(tmp_path) as api, ready_daemon(tmp_path) as running:
        add_pod(api, "cart", running)
        done = await trio.run_process(
            [str(plugin), "status"],
            env=environment(tmp_path) | {"PYTHONPATH": os.getcwd()},
            capture_stdout=True,
        )
    assert done.stdout.endswith(b"1 Pod in namespace shop, context lab: 1 ready.\n")


WRONG = {
    "two scopes": (["--all", "--namespace", "x"], 2, "--namespace and --all"),
    "two namespaces": (["--pod", "a/b", "--namespace", "c"], 2, "--namespace"),
    "a wrong Pod": (["--pod", "A B"], 2, "--pod is 'A B'"),
    "a wrong namespace": (["--namespace", "A/../B"], 2, "--namespace is 'A/../B'"),
    "a context without Pods": (["--context", "lab"], 2, "--context and --exec"),
    "an address with Pods": (["--all", "--admin-listen", ":1"], 2, "--admin-listen"),
    "a wrong address": (["--admin-listen", "x"], 2, "--admin-listen is 'x'"),
    "no address": (["--admin-listen", "off"], 2, "--admin-listen is off"),
    "a wrong interval": (["--watch", "0"], 2, "--watch is '0'"),
    "an unknown context": (["--all", "--context", "nope"], 2, "nope"),
    "no daemon": (["--admin-listen", "127.0.0.1:1"], 1, "No daemon responds on 127.0.0.1:1"),
    "no daemon to watch": (["--admin-listen", "127.0.0.1:1", "--watch"], 1, "No daemon responds"),
    "a missing Pod": (["--pod", "nope"], 1, "Pod nope does not exist in namespace shop"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_wrong_usage_has_one_message(tmp_path: Path, case: str) -> None:
    arguments, expected, words = WRONG[case]
    async with cluster(tmp_path):
        done = await status(tmp_path, *arguments)
    assert done.returncode == expected
    assert words in done.stderr.decode()
    assert done.stderr.count(b"irsa-sidecar: error: ") == 1
    assert b"Traceback" not in done.stderr


async def test_older_daemon_is_reported(tmp_path: Path) -> None:
    async with ready_daemon(tmp_path) as running:
        done = await status(tmp_path, "--admin-listen", running.url.split("/")[2])
    assert done.returncode == 1
    assert b"has no /status. Update the image" in done.stderr


async def test_namespace_without_a_sidecar_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path):
        done = await status(tmp_path, "--namespace", "empty")
    assert done.returncode == 1
    assert done.stdout == b"No Pod with a running sidecar in namespace empty, context lab.\n"


async def watched(tmp_path: Path, *arguments: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [*COMMAND, "--watch", "1", *arguments], env=environment(tmp_path), stdout=subprocess.PIPE
    )


async def read_until(stream: trio.abc.ReceiveStream, mark: bytes, times: int) -> bytes:
    received = b""
    with trio.fail_after(GUARD_SECONDS):
        while received.count(mark) < times:
            piece = await stream.receive_some()
            assert piece, received
            received += piece
    return received


@pytest.mark.parametrize(("form", "mark"), [([], b": 1 ready.\n"), (["--json"], b"}\n")])
async def test_watch_into_a_pipe_prints_one_report_after_the_other(
    tmp_path: Path, form: list[str], mark: bytes
) -> None:
    async with cluster(tmp_path) as api, ready_daemon(tmp_path) as running:
        add_pod(api, "cart", running)
        process = await watched(tmp_path, "--namespace", "shop", *form)
        assert process.stdout is not None
        async with process.stdout:
            printed = await read_until(process.stdout, mark, 2)
            process.send_signal(signal.SIGINT)
            with trio.fail_after(GUARD_SECONDS):
                assert await process.wait() == 0
    assert b"\x1b" not in printed
    if form:
        assert all(json.loads(line)["is_available"] for line in printed.splitlines()[:2])


async def test_watch_ends_if_its_reader_leaves(tmp_path: Path) -> None:
    async with ready_daemon(tmp_path) as running:
        process = await watched(tmp_path, "--admin-listen", admin(running))
        assert process.stdout is not None
        await read_until(process.stdout, b"ready", 1)
        await process.stdout.aclose()
        with trio.fail_after(GUARD_SECONDS):
            assert await process.wait() == 1


async def test_watch_redraws_the_terminal(tmp_path: Path) -> None:
    """Check that the terminal shows the change of a Pod, follows its size, and that Ctrl-C exits with 1 then."""
    async with cluster(tmp_path) as api, ready_daemon(tmp_path) as running:
        add_pod(api, "cart", running)
        ours, theirs = pty.openpty()
        size = dict.fromkeys(("COLUMNS", "LINES"), "")
        process = await trio.lowlevel.open_process(
            [*COMMAND, "--watch", "1", "--namespace", "shop"], env=environment(tmp_path) | size, stdout=theirs
        )
        os.close(theirs)
        async with trio.lowlevel.FdStream(ours) as terminal:
            first = await read_until(terminal, b"1 ready.", 1)
            api.broken[PODS] = (500, {"message": "etcd-is-away"})
            after = await read_until(terminal, b"etcd-is-away", 1)
            process.send_signal(signal.SIGWINCH)
            after += await read_until(terminal, b"1 ready.", 1)
            process.send_signal(signal.SIGINT)
            with trio.fail_after(GUARD_SECONDS):
                assert await process.wait() == 1
    assert first.startswith(b"\x1b[H\x1b[2J")
    assert after.count(b"\x1b[2J") == 0
    assert b"1 ready." in after


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_long_name_is_shown_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    name, settings = "n" * 200, environment(tmp_path) | {"PYTHONIOENCODING": encoding}
    async with cluster(tmp_path) as api, ready_daemon(tmp_path) as running:
        add_pod(api, name, running)
        done = await trio.run_process([*COMMAND, "-n", "shop"], env=settings, capture_stdout=True, capture_stderr=True)
    ellipsis = "…" if encoding == "utf-8" else "~"
    assert f"nnn{ellipsis}nnn" in done.stdout.decode(encoding)
    assert done.stderr == b""


async def test_interrupt_clears_the_progress(tmp_path: Path) -> None:
    is_over = threading.Event()

    def hang() -> tuple[int, bytes]:
        is_over.wait(GUARD_SECONDS)
        return 503, b""

    async with cluster(tmp_path) as api, ready_daemon(tmp_path) as running:
        add_pod(api, "cart", running)
        for name in ("slow", "slower"):
            add_pod(api, name, running)
        for path in [path for path in api.proxied if "slow" in path]:
            api.proxied[path] = hang
        ours, theirs = pty.openpty()
        process = await trio.lowlevel.open_process(
            [*COMMAND, "--all"], env=environment(tmp_path), stderr=theirs, stdout=subprocess.DEVNULL
        )
        async with trio.lowlevel.FdStream(ours) as terminal:
            shown = await read_until(terminal, b"1 of 3 Pods", 1)
            process.send_signal(signal.SIGINT)
            with trio.fail_after(GUARD_SECONDS):
                assert await process.wait() == 1
            os.close(theirs)
            shown += await terminal.receive_some()
        is_over.set()
    assert b"Traceback" not in shown
    assert shown.endswith(b"\r\x1b[K")
