"""The migrations: one head, up and down and up again, and no drift from the tables that the code knows."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.adapters.sql import tables
from app.adapters.sql.engine import open_engine, reading, writing
from app.adapters.sql.migrate import (
    current_revision,
    downgrade,
    find_migrations,
    newest_revision,
    require_current,
    upgrade,
)
from app.adapters.sql.store import SqlStore
from app.errors import Broken, Unavailable
from app.ledger.ports import Tenant
from tests.contract.ledger_store_contract import append, make_row

ROOT = Path(tables.__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/empty.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def engine(url):
    engine = open_engine(url)
    yield engine
    engine.dispose()


SQLITE_CATALOG = [
    "SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT IN ('alembic_version', 'sqlite_sequence') ORDER BY 2"
]
POSTGRES_CATALOG = [
    """SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2""",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1",
    """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic_version%%' ORDER BY 1""",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
]


def read_schema(engine: sa.Engine) -> str:
    """Return the database's own account of everything that the migrations made."""
    statements = SQLITE_CATALOG if engine.dialect.name == "sqlite" else POSTGRES_CATALOG
    with reading(engine) as connection:
        return "\n".join(str(row) for statement in statements for row in connection.exec_driver_sql(statement))


def test_there_is_one_head_and_the_files_are_numbered_in_order():
    scripts = ScriptDirectory(str(find_migrations()))
    assert len(scripts.get_heads()) == 1
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions == [f"{n:04}" for n in range(1, len(revisions) + 1)]
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_no_migration_imports_app_code():
    for path in find_migrations().rglob("*.py"):
        assert "import app" not in path.read_text()
        assert "from app" not in path.read_text()


def test_up_down_up_gives_the_same_schema(url, engine):
    upgrade(url)
    first = read_schema(engine)
    assert "checkpoint" in first
    upgrade(url)
    assert read_schema(engine) == first
    downgrade(url, "base")
    assert read_schema(engine) == ""
    assert current_revision(engine) is None
    upgrade(url)
    assert read_schema(engine) == first
    assert current_revision(engine) == newest_revision()


def test_the_tables_of_the_code_are_those_of_the_migrations(url, engine):
    upgrade(url)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        found = sa.inspect(connection)
        for table in tables.METADATA.tables.values():
            assert describe_migrated(found, table.name) == describe_known(table, engine.dialect), table.name
        differences = compare_metadata(context, tables.METADATA)
    unseen = "entry_tenant_seq"  # SQLite's alone
    differences = [change for change in differences if getattr(change[1], "name", "") != unseen]
    assert differences == []


def describe_migrated(found, name):
    """Return columns (type, nullable) and keys of a table as the database has them."""
    columns = {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(name)}
    keys = {("primary", tuple(found.get_pk_constraint(name)["constrained_columns"]))}
    keys |= {(key["name"], tuple(key["column_names"])) for key in found.get_unique_constraints(name)}
    duplicates = {key["name"] for key in found.get_unique_constraints(name)}
    keys |= {
        (index["name"], tuple(index["column_names"]))
        for index in found.get_indexes(name)
        if index["name"] not in duplicates
    }
    return columns, keys


def describe_known(table, dialect):
    """Return the same of a table as the code has it, in the words of this database."""
    columns = {column.name: (column.type.compile(dialect), column.nullable) for column in table.columns}
    keys = {("primary", tuple(table.primary_key.columns.keys()))}
    keys |= {
        (constraint.name, tuple(constraint.columns.keys()))
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    }
    keys |= {(index.name, tuple(index.columns.keys())) for index in table.indexes}
    if dialect.name == "sqlite" and table.name == "entry":
        keys = keys - {("primary", ("tenant", "seq"))} | {
            ("primary", ("seq",)),
            ("entry_tenant_seq", ("tenant", "seq")),
        }
    return columns, keys


def test_leaves_become_runs_and_leaves_again(url, engine):
    upgrade(url, "0008")
    first = read_schema(engine)
    bound = [*range(11, 14), 20, 15, *range(21, 600)]  # seq by index: out of order, with gaps, over two tiles
    leaves = [("a", idx, seq, sha256(b"%d" % seq).digest()) for idx, seq in enumerate(bound)]
    leaves += [("b", 0, 14, bytes(32)), ("b", 1, 600, bytes(32))]
    leaf = sa.table("leaf", *map(sa.column, ("tenant", "idx", "seq", "hash")))
    with writing(engine) as connection:
        connection.execute(sa.insert(leaf), [dict(zip(leaf.c.keys(), row, strict=True)) for row in leaves])
    upgrade(url)
    with reading(engine) as connection:
        runs = connection.execute(sa.select(tables.leaf_run).order_by("tenant", "idx")).all()
    assert [row[:4] for row in runs] == [
        *(("a", 0, 11, 3), ("a", 3, 20, 1), ("a", 4, 15, 1), ("a", 5, 21, 251)),
        *(("a", 256, 272, 256), ("a", 512, 528, 72), ("b", 0, 14, 1), ("b", 1, 600, 1)),
    ]
    assert b"".join(row.hashes for row in runs) == b"".join(row[3] for row in leaves)
    downgrade(url, "0008")
    with reading(engine) as connection:
        assert connection.execute(sa.select(leaf).order_by("tenant", "idx")).all() == leaves
    assert read_schema(engine) == first


@pytest.mark.slow
def test_a_migration_waits_four_seconds_for_a_lock_and_then_gives_up(postgres_url):
    upgrade(postgres_url, "0001")
    engine = open_engine(postgres_url)
    with writing(engine) as connection:
        connection.exec_driver_sql("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable):
            upgrade(postgres_url)
    upgrade(postgres_url)
    require_current(engine)
    engine.dispose()


def test_a_ledger_with_entries_is_never_dropped(url, engine):
    upgrade(url)
    store = SqlStore(engine)
    store.add_tenant(Tenant(id="a", origin="log.example/a"))
    append(store, make_row())
    store.close()
    with pytest.raises(RuntimeError, match="refusing"):
        downgrade(url, "base")
    assert current_revision(engine) == newest_revision()


def test_two_processes_may_migrate_at_once(url, engine):
    code = f"from app.adapters.sql.migrate import upgrade; upgrade({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    require_current(engine)


def test_a_database_that_is_behind_says_what_to_run(url, engine):
    with pytest.raises(Unavailable, match="run `assay migrate`") as caught:
        require_current(engine)
    assert caught.value.code == "schema_behind"
    with pytest.raises(Unavailable, match="run `assay migrate`"):
        SqlStore(engine).list_tenants()


def test_the_migrations_of_a_wheel_are_found_beside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "app"
    shipped = package / "shipped" / "migrations"
    monkeypatch.setattr("app.adapters.sql.migrate.app.__file__", str(package / "__init__.py"))
    with pytest.raises(Broken):
        find_migrations()
    shipped.mkdir(parents=True)
    (shipped / "env.py").touch()
    assert find_migrations() == shipped


def test_migrating_needs_no_working_directory(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    code = f"from app.adapters.sql.migrate import upgrade; upgrade({url!r})"
    subprocess.run([sys.executable, "-c", code], cwd="/", env={"PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "ledger.db").exists()
