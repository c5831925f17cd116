"""An OPA server of our own beside us, for as long as a block runs: to compare engines, to test, to measure.

Production runs OPA as a service (docs/operating.md). This one holds one bundle, which it reads from a folder that it
watches not: a new bundle is a new server. It is stopped by its pid, and does not outlive us, even if we are killed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import Unavailable
from app.policy.bundle import Bundle

BUNDLE: Final = "assay"
START_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 10.0
POLL_S: Final = 0.02
TAIL_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaProcess:
    """A running server: `url` as `OpaEngine` takes it, `pid` to stop it by, `log` is what it prints."""

    url: str
    pid: int
    log: Path


@contextlib.contextmanager
def running_opa(
    program: Path, source: Bundle | bytes, *, by_socket: bool = True, options: Sequence[str] = ()
) -> Iterator[OpaProcess]:
    """Yield a server that has `source` and answers; stop it at the end.

    `source` is a bundle's content, or an archive as OPA reads them. It listens on a unix socket, or on a free port
    of loopback; `options` are more of `opa run`'s. Raises Unavailable, with its last words, if it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="assay-opa-") as folder:
        place = Path(folder)
        bundle = place / "bundle.tar.gz" if isinstance(source, bytes) else place / "bundle"
        if isinstance(source, bytes):
            bundle.write_bytes(source)
        else:
            write_bundle(source, bundle)
        address = f"unix://{place / 'opa.sock'}" if by_socket else f"127.0.0.1:{_find_free_port()}"
        log = place / "log"
        with _started(program, bundle, address, log=log, more=options) as process:
            url = address if by_socket else f"http://{address}"
            yield OpaProcess(url=url, pid=process.pid, log=log)


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle as a folder that OPA reads, with the digest as its revision."""
    files = dict(bundle.modules)
    files |= {f"data/{name}/data.json": json.dumps(value) for name, value in bundle.data.items()}
    files[".manifest"] = json.dumps({"revision": bundle.digest, "roots": [""], "rego_version": 1})
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _started(
    program: Path, bundle: Path, address: str, *, log: Path, more: Sequence[str]
) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--set", f"bundles.{BUNDLE}.resource=file://{bundle}", "--log-level=error", "--skip-version-check"]
    options += more
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- the operator's own program
            [program, "run", "--server", f"--addr={address}", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C for us must not stop it before our clean-up
        )
    try:
        with _following(process.pid):
            _wait_until_up(process, address, log)
            yield process
    finally:
        process.kill()  # it keeps nothing; and one that was stopped by SIGSTOP heeds nothing else
        process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def _following(pid: int) -> Iterator[None]:
    """Have a shell kill `pid` as soon as we are gone: its input ends then, however we went."""
    script = f'read -r line || true; [ "$line" = done ] || kill -9 {pid}'
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True) as follower:  # noqa: S603
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                follower.communicate(b"done\n")


def _wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return once it answers that its bundle is active."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            if _is_up(address):
                return
        time.sleep(POLL_S)
    raise Unavailable(f"OPA did not come up: {log.read_text(errors='replace')[-TAIL_CHARS:]}")


def _is_up(address: str) -> bool:
    path = address.removeprefix("unix://")
    host, _, port = address.rpartition(":")
    by_socket = path != address
    with socket.socket(socket.AF_UNIX if by_socket else socket.AF_INET) as connection:
        connection.settimeout(1.0)
        connection.connect(path if by_socket else (host, int(port)))
        connection.sendall(b"GET /health?bundles=true HTTP/1.0\r\n\r\n")
        return connection.recv(64).startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port
