"""Leaves are stored in runs, up to 256 in a row of `leaf_run`, and found by the beginnings of their hashes in `tile`.

A row for each leaf cost nearly as much as the entry did. The leaves are copied in this transaction, two seconds for a
million on PostgreSQL and on SQLite, and the old table is dropped: stop web processes and sequencer first, the code
before knows only the old one. Tiles that are there get no `marks`: a look-up opens them, and takes longer.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WIDTH = 256
HASH_SIZE = 32
APP_ROLE = "assay_app"
KEY = (
    "(hashtext(tenant)::bigint << 48) | (idx >> 16 << 24)"
    " | (get_byte(hash, 0) << 16) | (get_byte(hash, 1) << 8) | get_byte(hash, 2)"
)
TO_RUNS = """
INSERT INTO leaf_run (tenant, idx, seq, width, hashes)
SELECT tenant, min(idx), min(seq), count(*), string_agg(hash, ''::bytea ORDER BY idx)
FROM (
    SELECT tenant, idx, seq, hash, sum(starts) OVER (PARTITION BY tenant ORDER BY idx) AS run
    FROM (
        SELECT tenant, idx, seq, hash,
            (idx % 256 = 0 OR seq - 1 <> lag(seq) OVER (PARTITION BY tenant ORDER BY idx))::int AS starts
        FROM leaf) AS marked) AS numbered
GROUP BY tenant, run"""
TO_LEAVES = """
INSERT INTO leaf (tenant, idx, seq, hash)
SELECT tenant, idx + place, seq + place, substr(hashes, 32 * place + 1, 32)
FROM leaf_run, generate_series(0, width - 1) AS place"""


def upgrade() -> None:
    bind = op.get_bind()
    op.create_table(
        "leaf_run",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("idx", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "idx", name="leaf_run_pkey"),
        sa.UniqueConstraint("tenant", "seq", name="leaf_run_tenant_seq_key"),
        sa.CheckConstraint(
            "idx >= 0 AND width > 0 AND idx % 256 + width <= 256 AND length(hashes) = 32 * width",
            name="leaf_run_check",
        ),
    )
    op.add_column("tile", sa.Column("marks", sa.LargeBinary, nullable=True))
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE leaf_run ALTER COLUMN hashes SET STORAGE EXTERNAL")  # hashes do not compress
        op.execute(TO_RUNS)
        _grant("SELECT, INSERT ON leaf_run")
        _grant("USAGE ON entry_seq_seq")  # whoever inserts draws the numbers of a batch together
    else:
        driver = bind.connection.driver_connection
        leaves = driver.execute("SELECT tenant, idx, seq, hash FROM leaf ORDER BY tenant, idx")
        driver.executemany("INSERT INTO leaf_run (tenant, idx, seq, width, hashes) VALUES (?, ?, ?, ?, ?)", _runs(leaves))
    op.drop_table("leaf")
    _protect("leaf_run")


def _runs(leaves):
    """Yield the runs of leaves that come by tenant and index."""
    run = None
    for tenant, idx, seq, leaf in leaves:
        if run and idx % WIDTH and run[:3] == (tenant, idx - run[3], seq - run[3]):
            run = (*run[:3], run[3] + 1, run[4] + leaf)
        else:
            if run:
                yield run
            run = (tenant, idx, seq, 1, leaf)
    if run:
        yield run


def _protect(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"""
            CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION assay_refuse_change()""")
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"""
                CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}
                BEGIN SELECT RAISE(ABORT, '{table} is append-only: {verb} refused'); END""")


def _grant(what: str) -> None:
    op.execute(f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                GRANT {what} TO {APP_ROLE};
            END IF;
        END $$""")


def downgrade() -> None:
    bind = op.get_bind()
    is_postgresql = bind.dialect.name == "postgresql"
    op.create_table(
        "leaf",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("idx", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "idx", name="leaf_pkey"),
        sa.UniqueConstraint("tenant", "seq", name="leaf_tenant_seq_key"),
        sqlite_with_rowid=False,
    )
    if is_postgresql:
        op.execute(TO_LEAVES)
        op.create_index("leaf_key", "leaf", [sa.text(f"({KEY})")])
        _grant("SELECT, INSERT ON leaf")
    else:
        driver = bind.connection.driver_connection
        runs = driver.execute("SELECT tenant, idx, seq, width, hashes FROM leaf_run ORDER BY tenant, idx")
        driver.executemany("INSERT INTO leaf (tenant, idx, seq, hash) VALUES (?, ?, ?, ?)", _leaves(runs))
        op.create_index("leaf_segment_hash", "leaf", ["tenant", sa.text("(idx >> 16)"), sa.text("substr(hash, 1, 4)")])
    op.drop_table("leaf_run")
    op.drop_column("tile", "marks")
    _protect("leaf")


def _leaves(runs):
    """Yield the leaves of runs."""
    for tenant, idx, seq, width, hashes in runs:
        for place in range(width):
            yield tenant, idx + place, seq + place, hashes[place * HASH_SIZE : (place + 1) * HASH_SIZE]
