"""The service under test, as real processes: PostgreSQL or SQLite, two web workers, one sequencer.

`create_app` is the target that granian loads in a worker; what it builds is told by `ASSAY_BENCH_APP`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from app.adapters.collector import spare_collector
from app.adapters.memory import MemoryStore
from app.adapters.processor import PLACE
from app.adapters.sql.migrate import upgrade
from app.credentials.merchant_token import issue
from app.credentials.ports import Scope
from app.ledger.group import GroupCommit
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.sequence import SequencerLoop
from app.ledger.wait import PublicationWatch
from app.settings import Settings, read_settings
from app.web.app import create_app as create_assay
from app.web.server import answer_later_under_granian
from app.wiring import TOKEN_SECRET, Installation, Services, add_tenant, build_services, initialise, new_entry_id
from tests.parts.postgres import running_postgres

TENANT = "bench"
START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running service: where it is, and a token for it."""

    url: str
    token: str
    settings: Settings


def create_app() -> Flask:
    """Return the application named by `ASSAY_BENCH_APP`: hello, memory or sql."""
    kind = os.environ["ASSAY_BENCH_APP"]
    settings = read_settings()
    if settings.bind_workers:
        PLACE.take(settings.workers)
    if kind != "hello":
        answer_later_under_granian()
    if kind == "hello":
        return _hello()
    installation = Installation(settings)
    services = build_services(installation)
    app = create_assay(_over_memory(installation, services) if kind == "memory" else services)
    spare_collector()
    return app


def _hello() -> Flask:
    app = Flask("hello")
    app.add_url_rule("/v1/entries", "hello", view_func=lambda: "hello", methods=["POST"])
    app.add_url_rule("/livez", "alive", view_func=lambda: "ok")
    return app


def _over_memory(installation: Installation, services: Services) -> Services:
    """Return the same services over a store in memory, with the sequencer in a thread of the worker."""
    store = MemoryStore()
    store.add_tenant(installation.read_tenant(TENANT))
    anchor = _MemoryAnchor()
    loop = SequencerLoop(
        store=store,
        open_sequencer=lambda tenant: Sequencer(
            store=store, tenant=tenant, anchor=anchor, keyring=installation.keyring
        ),
    )
    threading.Thread(target=loop.run, args=(threading.Event(),), daemon=True).start()
    prover = Prover(store)
    watch = PublicationWatch(store, prover)
    return replace(services, store=store, prover=prover, watch=watch, group=GroupCommit(store, watch))


class _MemoryAnchor:
    """An anchor that lasts as long as the store in memory."""

    def __init__(self) -> None:
        self._notes: dict[str, bytes] = {}

    @contextlib.contextmanager
    def hold(self, origin: str) -> Iterator[None]:  # noqa: ARG002 -- the port's signature
        """Nobody else can have it."""
        yield

    def find(self, origin: str) -> bytes | None:
        """Return the last one."""
        return self._notes.get(origin)

    def write(self, origin: str, checkpoint: bytes) -> None:
        """Keep it."""
        self._notes[origin] = checkpoint


@contextlib.contextmanager
def running_service(
    kind: str,
    database: str,
    *,
    workers: int = 2,
    threads: int = 8,
    seed: Callable[[Settings], None] = lambda _: None,
) -> Iterator[Running]:
    """Run the app `kind` with `workers` processes over `database` ("postgresql" or "sqlite"), filled by `seed`."""
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-bench-")))
        url = None
        if database == "postgresql":
            url = stack.enter_context(running_postgres()).create_database()
        settings = Settings(
            state_dir=state,
            database_url=url,
            port=_free_port(),
            workers=workers,
            threads=threads,
            rate_limit_per_minute=10**9,
            public_rate_limit_per_minute=10**9,
        )
        seed(settings)
        token = prepare(settings)
        environment = _environment(settings, kind)
        if kind == "sql":
            stack.enter_context(_child(environment, "from scripts.bench.service import sequence; sequence()"))
        stack.enter_context(_child(environment, "from scripts.bench.service import serve; serve()"))
        service = Running(url=f"http://127.0.0.1:{settings.port}", token=token, settings=settings)
        _wait_until_up(service.url + "/livez")
        yield service


def prepare(settings: Settings) -> str:
    """Make the schema, the secrets and the tenant, unless they are there; return a new token."""
    upgrade(settings.database)
    initialise(settings)
    installation = Installation(settings)
    add_tenant(installation, TENANT)
    issued = issue(
        TENANT,
        list(Scope),
        store=installation.token_store(),
        pepper=installation.secret(TOKEN_SECRET),
        append=installation.append_in,
        actor="operator:bench",
        new_id=new_entry_id,
        random_bytes=os.urandom,
    )
    installation.store.close()
    return issued.token


def _environment(settings: Settings, kind: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    environment.pop("RUST_BACKTRACE", None)
    given = settings.model_dump(exclude_unset=True, mode="json")
    environment |= {f"ASSAY_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    return environment | {"ASSAY_BENCH_APP": kind}


def serve() -> None:
    """Serve until told to stop; runs in a child."""
    settings = read_settings()
    Server(
        "scripts.bench.service:create_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=settings.threads,
        backlog=settings.backlog,
        http=HTTPModes.http1,
        websockets=False,
        factory=True,
        log_enabled=False,
    ).serve()


def sequence() -> None:
    """Publish until told to stop; runs in a child."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    installation = Installation(read_settings())
    loop = SequencerLoop(store=installation.store, open_sequencer=installation.sequencer)
    spare_collector()
    loop.run(stop)


@contextlib.contextmanager
def _child(environment: dict[str, str], code: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(url: str) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 -- our own loopback address
                return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
