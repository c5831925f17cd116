"""The log tables refuse to change: by trigger on both databases, by role on PostgreSQL."""

from __future__ import annotations

import secrets
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa

from app.adapters.sql.engine import open_engine, writing
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.policies import SqlBundleTx
from app.adapters.sql.store import SqlStore
from app.adapters.sql.tables import METADATA
from app.errors import Broken, Unavailable
from app.ledger.ports import Head, Integration, Tenant
from tests.contract.bundle_store_contract import new_bundle
from tests.contract.ledger_store_contract import append, hash_at, keyed, make_row, root_at, tile_at

LOG_TABLES = ("entry", "entry_ref", "idempotency", "leaf_run", "tile", "checkpoint", "policy_archive")
DENIED = r"permission denied|must be owner"
CHANGES = ["UPDATE $ SET tenant = tenant", "DELETE FROM $", "DELETE FROM $ WHERE tenant = 'a'"]
TRUNCATIONS = ["TRUNCATE $", "TRUNCATE $ CASCADE"]
REPLACEMENTS = ["REPLACE INTO $ SELECT * FROM $"]
ALTERATIONS = [
    "ALTER TABLE $ DISABLE TRIGGER ALL",
    "DROP TRIGGER $_is_append_only ON $",
    "ALTER TABLE $ ADD COLUMN x int",
    "CREATE RULE r AS ON INSERT TO $ DO INSTEAD NOTHING",
    "DROP TABLE $",
    "SET session_replication_role = replica",
]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    url = f"sqlite:///{tmp_path}/l.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    upgrade(url)
    return url


@pytest.fixture
def engine(url):
    engine = open_engine(url)
    store = SqlStore(engine)
    fill(store)
    yield engine
    store.close()


def fill(store):
    """Put a row into every table."""
    store.add_tenant(Tenant(id="a", origin="log.example/a"))
    [result] = append(store, keyed(b"key", refs=("ref",)))
    old, new = store.read_head("a"), Head(size=1, root=root_at(1))
    batch = {"seqs": [result.seq], "leaf_hashes": [hash_at(0)], "tiles": [tile_at(0, 0)]}
    store.integrate(Integration(tenant="a", old=old, new=new, **batch))
    store.expose("a", 1, b"note")
    with store.transaction() as tx:
        SqlBundleTx(tx).add_bundle(replace(new_bundle(), tenant="a"), b"archive")


def dump(engine, table):
    with engine.connect() as connection:
        return connection.execute(sa.select(METADATA.tables[table])).fetchall()


@pytest.mark.parametrize("table", LOG_TABLES)
def test_a_log_table_refuses_update_delete_and_replace(engine, table):
    before = dump(engine, table)
    assert len(before) == 1
    attempts = CHANGES + (TRUNCATIONS if engine.dialect.name == "postgresql" else REPLACEMENTS)
    for attempt in attempts:
        statement = attempt.replace("$", table)
        with pytest.raises(sa.exc.DBAPIError, match=f"{table} is append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert dump(engine, table) == before, statement


def test_what_a_trigger_refuses_is_broken_and_not_worth_a_retry(engine):
    with pytest.raises(Broken) as caught, writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM entry")
    assert "append-only" not in str(caught.value)


@pytest.fixture
def service(postgres_server):
    """Return the engine of a login role that is a member of `assay_app` and owns nothing."""
    url = postgres_server.create_database(upgrade)
    owner = sa.make_url(url)
    name, password = f"service_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(owner.set(drivername="postgresql").render_as_string(False), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE assay_app")
        engine = open_engine(owner.set(username=name, password=password).render_as_string(False))
        yield engine
        engine.dispose()
        admin.execute(f"DROP ROLE {name}")
    postgres_server.drop_database(url)


def test_the_service_role_can_do_all_that_the_ledger_needs(service):
    store = SqlStore(service)
    store.wait_for_append(0)
    fill(store)
    assert store.list_pending("a", 0, 9).settled_seq == 1
    assert store.find_checkpoint("a") == b"note"
    with store.sequencer_lock("a"):
        store.integrate(
            Integration(
                tenant="a",
                old=store.read_head("a"),
                new=Head(size=1, root=root_at(1), frozen=True),
                seqs=[],
                leaf_hashes=[],
                tiles=[],
            )
        )
    store.close()


@pytest.mark.parametrize("table", LOG_TABLES)
def test_the_service_role_may_not_even_try(service, table):
    store = SqlStore(service)
    fill(store)
    for attempt in CHANGES + TRUNCATIONS + ALTERATIONS:
        statement = attempt.replace("$", table)
        with pytest.raises(sa.exc.ProgrammingError, match=DENIED), service.begin() as tried:
            tried.exec_driver_sql(statement)
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM head",
        "DELETE FROM tenant",
        "TRUNCATE head",
        "UPDATE tenant SET origin = id",
        "DELETE FROM policy_bundle",
        "UPDATE policy_bundle SET author = 'token:other'",
    ],
)
def test_the_service_role_may_move_heads_and_not_remove_them(service, statement):
    with pytest.raises(sa.exc.ProgrammingError, match=DENIED), service.begin() as tried:
        tried.exec_driver_sql(statement)


def test_the_service_role_may_not_choose_a_sequence_number(service):
    store = SqlStore(service)
    fill(store)
    chosen = "INSERT INTO entry (tenant, seq, id, body, action) VALUES ('a', 7, gen_random_uuid(), '', 'x')"
    with pytest.raises(sa.exc.ProgrammingError, match="GENERATED ALWAYS"), service.begin() as tried:
        tried.exec_driver_sql(chosen)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), service.begin() as tried:
        tried.exec_driver_sql("SELECT setval('entry_seq_seq', 1)")
    store.close()


def test_a_migration_without_the_right_to_create_roles_still_works(postgres_server):
    url = postgres_server.create_database()
    owner = sa.make_url(url)
    name, password = f"migrator_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(owner.set(drivername="postgresql").render_as_string(False), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        as_migrator = owner.set(username=name, password=password).render_as_string(False)
        upgrade(as_migrator)
        store = SqlStore.open(as_migrator)
        store.add_tenant(Tenant(id="a", origin="log.example/a"))
        append(store, make_row())
        store.close()
        admin.execute(f"DROP OWNED BY {name}")
        admin.execute(f"DROP ROLE {name}")
    postgres_server.drop_database(url)


def test_unavailable_names_no_password(tmp_path):
    engine = open_engine("postgresql://assay:hunter2@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        SqlStore(engine).list_tenants()
    assert "hunter2" not in str(caught.value)
