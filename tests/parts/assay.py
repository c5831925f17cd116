"""A real installation of Assay, run by its own command in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

COMMAND = [sys.executable, "-P", "-m", "app.cli.main"]
TENANT = "demo"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 40.0
ANSWER_LIMIT_S = 40.0
POLL_S = 0.05


def find_free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


def wait_until(
    holds: Callable[[], object], limit_s: float = START_LIMIT_S, *, what: str = "it", poll_s: float = POLL_S
) -> None:
    """Poll until `holds()`; fail after `limit_s`."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s, f"{what} did not happen in {limit_s:g} s"
        time.sleep(poll_s)


class Assay:
    """An installation in `folder`, with ports of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "RUST_"))}
        self.environment = {
            **inherited,
            "ASSAY_STATE_DIR": str(self.state),
            "ASSAY_PORT": str(self.port),
            "ASSAY_STRIPE_API_BASE": f"http://127.0.0.1:{find_free_port()}",
            "ASSAY_WORKERS": "1",
            "XDG_STATE_HOME": str(folder / "auditor"),
            "NO_COLOR": "1",
            **settings,
        }

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `code` is the expected exit code, None for any."""
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def init(self) -> str:
        """Create the installation; return the verifier key."""
        return self.run("init", "--quiet").stdout.strip()

    def issue_token(self, *scopes: str) -> str:
        """Return a new token."""
        words = [word for scope in scopes for word in ("--scope", scope)]
        return self.run("token", "issue", "--tenant", TENANT, "--quiet", *words).stdout.strip()

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        """Run `assay up` while the block runs; it must stop in order."""
        process = self.start("up")
        try:
            self.wait_until_ready(process)
            yield process
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=STOP_LIMIT_S)
        assert process.returncode == 0, output

    def wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        """Return when /readyz answers 200."""
        wait_until(lambda: process.poll() is not None or self.is_ready(), what="readiness")
        assert process.poll() is None, process.communicate()[0]

    def is_ready(self) -> bool:
        """Say whether /readyz answers 200."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == HTTPStatus.OK
        except requests.RequestException:
            return False

    def request(self, method: str, path: str, token: str, body: Any = None, **headers: str) -> requests.Response:
        """Send one request on a connection of its own. Raises RequestException if there was no whole answer."""
        sent = {"Authorization": f"Bearer {token}", **headers}
        return requests.request(method, self.url + path, json=body, headers=sent, timeout=ANSWER_LIMIT_S)


def list_children(pid: int) -> dict[int, str]:
    """Return {pid: command} of the processes that `pid` has started and that run; Linux's /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found[int(folder.name)] = command
    return found


def list_descendants(pid: int) -> dict[int, str]:
    """Return all processes below `pid`."""
    found = list_children(pid)
    for child in list(found):
        found |= list_descendants(child)
    return found


def is_running(pid: int) -> bool:
    """Say whether the process runs; a zombie does not."""
    return _read_state(Path(f"/proc/{pid}/stat")) not in ("", "Z")


def _read_state(stat: Path) -> str:
    """Return the letter for what a process or a thread is doing (proc(5)); "" if it is gone."""
    try:
        return stat.read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def freeze(pid: int) -> None:
    """Stop the process until SIGCONT; once the signal is sent its threads go on for a moment, so wait for each."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    wait_until(lambda: {_read_state(stat) for stat in threads.glob("*/stat")} == {"T"}, what="its stop", poll_s=0.001)


def kill(pid: int) -> None:
    """Kill -9."""
    os.kill(pid, signal.SIGKILL)
