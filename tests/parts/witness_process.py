"""Real witness processes for tests: the granian server, and a small process that asks a shared state directly.

A file named `die` in the witness's folder makes it kill itself with SIGKILL, once, between storing and answering.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import requests

from app.adapters.anchor_file import FileAnchor
from app.adapters.keyfile import create_key_file, read_signer
from app.adapters.witness_server import serve_witness
from app.errors import Rejected
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import Witness
from app.tlog.note import COSIGNATURE_V1, VerifierKey, parse_vkey
from tests.fakes.witnesses import FORK, LEAVES, LOG, Clock, make_body

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE_S = 30.0


class DyingAnchor(FileAnchor):
    """Stores like a FileAnchor and dies right after, if told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "state", lock_wait_s=10)
        self._die = folder / "die"

    def write(self, origin: str, checkpoint: bytes) -> None:
        super().write(origin, checkpoint)
        if self._die.exists():
            self._die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def create_witness(folder: Path, name: str) -> VerifierKey:
    """Make a witness's folder, key and state; return its key."""
    FileAnchor.create(folder / "state")
    return parse_vkey(create_key_file(folder / "keys", name, algorithm=COSIGNATURE_V1))


def load_witness(folder: Path, name: str) -> Witness:
    """Return the witness of a folder, which trusts LOG."""
    signer = read_signer(folder / "keys", name, algorithm=COSIGNATURE_V1)
    return Witness(key=signer.key, sign=signer.sign, logs={LOG.name: (LOG,)}, state=DyingAnchor(folder), now=Clock())


@contextmanager
def running_witness(folder: Path, name: str) -> Iterator[str]:
    """Serve the witness of a folder on a free loopback port; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / f"server-{port}.log").open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.parts.witness_process", "serve", str(folder), name, str(port)],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=START_DEADLINE_S)


def wait_until_up(url: str, server: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the witness answers."""
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        assert server is None or server.poll() is None, "the witness did not start"
        try:
            requests.get(url, timeout=1)
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def grow(folder: Path, name: str, kind: str) -> None:
    """Ask for every size up to the end, from wherever the witness is; print the sizes that were cosigned."""
    witness, leaves = load_witness(folder, name), FORK if kind == "fork" else LEAVES
    size = 0
    print("ready", flush=True)  # noqa: T201 -- the parent reads it
    sys.stdin.readline()
    while size < len(leaves):
        try:
            witness.add_checkpoint(make_body(size, size + 1, leaves))
        except WitnessConflictError as conflict:
            size = conflict.size
        except Rejected:
            break
        else:
            size += 1
            print(json.dumps(size), flush=True)  # noqa: T201 -- the parent reads it


def main(command: str, folder: str, name: str, argument: str) -> None:
    """Be the process that `command` names."""
    if command == "serve":
        serve_witness(partial(load_witness, Path(folder), name), port=int(argument))
    else:
        grow(Path(folder), name, argument)


if __name__ == "__main__":
    main(*sys.argv[1:])
