"""How PostgreSQL goes about the hot paths: by their keys, whatever it knows of the tables."""

from __future__ import annotations

import re

import pytest

from app.adapters.sql.arrays import pack_bigints
from app.adapters.sql.postgres import _PENDING
from app.ledger.ports import Tenant
from tests.contract.ledger_store_contract import append, make_row
from tests.fakes.ledger_stores import any_store


@pytest.fixture
def store(request):
    with any_store("postgres", request) as store:
        store.add_tenant(Tenant(id="a", origin="log.example/a"))
        yield store


def test_what_is_pending_is_read_by_its_key_though_nobody_analysed_the_table(store):
    append(store, *[make_row() for _ in range(2000)])
    holes = (pack_bigints([1]), pack_bigints([3000]))
    plan = str(store._backend.ask_watching(f"EXPLAIN {_PENDING}", ("a", *holes, "a", 10, 10)))
    assert "using entry_pkey" in plan
    assert "Sort" not in plan, "it would read all that is pending for each page of it"


def test_plans_that_are_kept_from_an_empty_log_serve_a_large_one(store):
    assert store.list_pending("a", 0, 10).entries == []
    assert store.list_published("a", [1]) == (None, {})
    watcher = store._backend._watcher
    listed = (
        "SELECT statement, name FROM pg_prepared_statements WHERE statement LIKE '%asked%' OR statement LIKE '%hole%'"
    )
    kept = watcher.execute(listed, prepare=False).fetchall()
    assert len(kept) == 2
    for statement, name in kept:
        arguments = ", ".join(["NULL"] * statement.count("$"))
        plan = "\n".join(line for (line,) in watcher.execute(f"EXPLAIN EXECUTE {name} ({arguments})"))
        assert re.search(r"(leaf_run_tenant_seq_key|entry_pkey).*\n.*\(tenant = .*\(seq [<>]", plan)
        assert "Seq Scan" not in plan
