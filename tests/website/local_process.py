"""Run `irsa-sidecar local` as a process with its page, and an SDK in another process."""

import json
import os
import shlex
import subprocess
import sys

BOTO3 = """
import boto3
for _ in range(20):
    assert boto3.Session().get_credentials().get_frozen_credentials().access_key
print("20 served")
"""
"""A client that gets credentials from the daemon 20 times, each time with a new session of the SDK."""


class Local:
    """A running `irsa-sidecar local`: the address of its page, and the environment of its clients."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "sidecar", "local", "--log-format", "json", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.exports = self.process.stdout.read()
        self.url = ""
        for line in self.process.stderr:
            event = json.loads(line)
            self.url = event.get("url", self.url)
            if event["event"] == "credentials_refreshed":
                break

    def client(self, code: str = BOTO3) -> str:
        """Run the code in a shell with the printed variables, and return its output."""
        script = f"{self.exports}\n{sys.executable} -c {shlex.quote(code)}"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()
