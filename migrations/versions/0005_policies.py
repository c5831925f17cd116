"""Bundles of policies: their archives, which never change, and how far each is on its way into force.

`entry_policy_events` is what the history of policies reads; on a large log building it takes a while, as one pass over
the entries, and appends wait for it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APP_ROLE = "assay_app"
EVENTS = (
    "action IN ('policy.bundle_added', 'policy.data_changed', 'policy.bundle_shadowed', 'policy.bundle_activated',"
    " 'policy.bundle_retired', 'policy.replayed', 'policy.reverified')"
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    entry_id = UUID(as_uuid=True) if dialect == "postgresql" else sa.LargeBinary(16)

    op.create_table(
        "policy_archive",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("archive", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name="policy_archive_pkey"),
    )
    op.create_table(
        "policy_bundle",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("proposer", sa.Text, nullable=True),
        sa.Column("approver", sa.Text, nullable=True),
        sa.Column("base", sa.Text, nullable=True),
        sa.Column("reports", sa.Text, nullable=False),
        sa.Column("added_id", entry_id, nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name="policy_bundle_pkey"),
        sa.UniqueConstraint("tenant", "added_id", name="policy_bundle_tenant_added_id_key"),
        sa.CheckConstraint("state IN ('draft', 'shadow', 'active', 'retired')", name="policy_bundle_state_check"),
        sa.CheckConstraint("state <> 'active' OR approver IS NOT NULL", name="policy_bundle_approved_check"),
        sa.CheckConstraint(
            "approver IS NULL"
            " OR (approver = 'operator:assay' AND author = 'operator:assay')"
            " OR (approver NOT IN ('operator:assay', author, proposer) AND proposer IS NOT NULL)",
            name="policy_bundle_four_eyes_check",
        ),
    )
    for state in ("active", "shadow"):
        only = sa.text(f"state = '{state}'")
        op.create_index(
            f"policy_bundle_one_{state}",
            "policy_bundle",
            ["tenant"],
            unique=True,
            postgresql_where=only,
            sqlite_where=only,
        )
    events = sa.text(EVENTS)
    op.create_index("entry_policy_events", "entry", ["tenant", "seq"], postgresql_where=events, sqlite_where=events)
    if dialect == "postgresql":
        _protect_on_postgresql()
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"""
                CREATE TRIGGER policy_archive_refuses_{verb.lower()} BEFORE {verb} ON policy_archive
                BEGIN SELECT RAISE(ABORT, 'policy_archive is append-only: {verb} refused'); END""")


def _protect_on_postgresql() -> None:
    op.execute("""
        CREATE TRIGGER policy_archive_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON policy_archive
        FOR EACH STATEMENT EXECUTE FUNCTION assay_refuse_change()""")
    op.execute(f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                GRANT SELECT, INSERT ON policy_archive, policy_bundle TO {APP_ROLE};
                GRANT UPDATE (state, proposer, approver, reports, changed_at_ms) ON policy_bundle TO {APP_ROLE};
            END IF;
        END $$""")


def downgrade() -> None:
    """Only without bundles: decisions name them, and could never be run again."""
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM policy_archive)")).scalar():
        raise RuntimeError("there are bundles: refusing to drop them")
    op.drop_index("entry_policy_events", "entry")
    op.drop_table("policy_bundle")
    op.drop_table("policy_archive")
