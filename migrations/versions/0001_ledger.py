"""The ledger: tenants, entries, leaves, tiles, heads, checkpoints.

Log tables refuse UPDATE, DELETE and (PostgreSQL) TRUNCATE by trigger. On PostgreSQL the role `assay_app` may not even
try; it is made here if the migrating role may create roles, else by the administrator beforehand:

    CREATE ROLE assay_app NOLOGIN;

The login role of the service is then a member of it, and owns nothing.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LOG_TABLES = ("entry", "entry_ref", "idempotency", "leaf", "tile", "checkpoint")
MUTABLE_TABLES = ("tenant", "head")
APP_ROLE = "assay_app"

NOW_MS = {
    "postgresql": "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    now_ms = sa.text(NOW_MS[dialect])
    entry_id = UUID(as_uuid=True) if dialect == "postgresql" else sa.LargeBinary(16)

    op.create_table(
        "tenant",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False, server_default=now_ms),
        sa.PrimaryKeyConstraint("id", name="tenant_pkey"),
        sa.UniqueConstraint("origin", name="tenant_origin_key"),
        sa.CheckConstraint("state IN ('open', 'frozen')", name="tenant_state_check"),
    )
    _create_entry(dialect, entry_id)
    op.create_index(
        "entry_tenant_subject_seq",
        "entry",
        ["tenant", "subject", "seq"],
        postgresql_where=sa.text("subject IS NOT NULL"),
        sqlite_where=sa.text("subject IS NOT NULL"),
    )
    events = sa.text("action IN ('key.added', 'key.retired', 'log.frozen', 'log.recovered')")
    op.create_index(
        "entry_log_events", "entry", ["tenant", "seq"], postgresql_where=events, sqlite_where=events
    )
    op.create_table(
        "entry_ref",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "value", "seq", name="entry_ref_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("idem", sa.LargeBinary(32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("entry_id", entry_id, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "idem", name="idempotency_pkey"),
        sqlite_with_rowid=False,
    )
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
    op.create_index("leaf_tenant_hash", "leaf", ["tenant", "hash"])
    op.create_table(
        "tile",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary(8192), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "level", "number", name="tile_pkey"),
    )
    op.create_table(
        "head",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("settled_seq", sa.BigInteger, nullable=False),
        sa.Column("frozen", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="head_pkey"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        sa.Column("exposed_at_ms", sa.BigInteger, nullable=False, server_default=now_ms),
        sa.PrimaryKeyConstraint("tenant", "size", name="checkpoint_pkey"),
    )
    if dialect == "postgresql":
        _protect_on_postgresql()
        _grant()
    else:
        _protect_on_sqlite()


def _create_entry(dialect: str, entry_id: sa.types.TypeEngine) -> None:
    columns = [
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", entry_id, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=True),
        sa.UniqueConstraint("tenant", "id", name="entry_tenant_id_key"),
    ]
    if dialect == "postgresql":
        seq = sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False)
        op.create_table("entry", seq, *columns, sa.PrimaryKeyConstraint("tenant", "seq", name="entry_pkey"))
    else:
        seq = sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True)
        op.create_table("entry", seq, *columns, sqlite_autoincrement=True)
        op.create_index("entry_tenant_seq", "entry", ["tenant", "seq"])


def _protect_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION assay_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
        END $$""")
    for table in LOG_TABLES:
        op.execute(f"""
            CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION assay_refuse_change()""")
    # A transaction has its id before it draws a number: what makes a number of `entry_seq_seq` "settled" rests on it.
    op.execute("""
        CREATE FUNCTION assay_assign_xid() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_current_xact_id();
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER entry_assigns_xid BEFORE INSERT ON entry
        FOR EACH STATEMENT EXECUTE FUNCTION assay_assign_xid()""")
    op.execute("ALTER TABLE tile ALTER COLUMN data SET STORAGE EXTERNAL")  # hashes do not compress


def _grant() -> None:
    op.execute(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}')
               AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
                BEGIN
                    CREATE ROLE {APP_ROLE} NOLOGIN;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- a migration of another database
                END;
            END IF;
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                GRANT SELECT, INSERT ON {", ".join(LOG_TABLES)} TO {APP_ROLE};
                GRANT SELECT, INSERT ON {", ".join(MUTABLE_TABLES)} TO {APP_ROLE};
                GRANT UPDATE ON head TO {APP_ROLE};
                GRANT UPDATE (state) ON tenant TO {APP_ROLE};
                GRANT SELECT ON alembic_version, entry_seq_seq TO {APP_ROLE};
            END IF;
        END $$""")


def _protect_on_sqlite() -> None:
    for table in LOG_TABLES:
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"""
                CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}
                BEGIN SELECT RAISE(ABORT, '{table} is append-only: {verb} refused'); END""")


def downgrade() -> None:
    """Only an empty ledger goes back: a log is never dropped by a migration."""
    bind = op.get_bind()
    if bind.execute(sa.text("SELECT EXISTS (SELECT 1 FROM entry)")).scalar():
        raise RuntimeError("the ledger has entries: refusing to drop it")
    for table in (*reversed(LOG_TABLES), *MUTABLE_TABLES):
        op.drop_table(table)
    if bind.dialect.name == "postgresql":
        op.execute("DROP FUNCTION assay_refuse_change()")
        op.execute("DROP FUNCTION assay_assign_xid()")
