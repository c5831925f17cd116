"""Payments: intents, attempts (at most one live for each intent) and merchants' idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APP_ROLE = "assay_app"


def upgrade() -> None:
    op.create_table(
        "payment_intent",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("psp", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=True),
        sa.Column("decision_id", sa.Text, nullable=True),
        sa.Column("active_attempt_id", sa.Text, nullable=True),
        sa.Column("next_check_at_us", sa.BigInteger, nullable=True),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="payment_intent_pkey"),
    )
    due = sa.text("next_check_at_us IS NOT NULL")
    op.create_index(
        "payment_intent_due", "payment_intent", ["next_check_at_us"], postgresql_where=due, sqlite_where=due
    )
    op.create_table(
        "payment_attempt",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("intent_id", sa.Text, nullable=False),
        sa.Column("psp", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=True),
        sa.Column("psp_reference", sa.Text, nullable=True),
        sa.Column("sends", sa.Integer, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("last_sent_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="payment_attempt_pkey"),
        sa.UniqueConstraint("key", name="payment_attempt_key_key"),
    )
    op.create_index(
        "payment_attempt_one_live",
        "payment_attempt",
        ["tenant", "intent_id"],
        unique=True,
        postgresql_where=sa.text("live"),
        sqlite_where=sa.text("live"),
    )
    op.create_table(
        "payment_key",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("idem", sa.LargeBinary(32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("intent_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "idem", name="payment_key_pkey"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"""
            DO $$ BEGIN
                IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                    GRANT SELECT, INSERT, UPDATE ON payment_intent, payment_attempt TO {APP_ROLE};
                    GRANT SELECT, INSERT ON payment_key TO {APP_ROLE};
                END IF;
            END $$""")


def downgrade() -> None:
    """Only without payments: their state is nowhere else."""
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM payment_intent)")).scalar():
        raise RuntimeError("there are payments: refusing to drop them")
    for table in ("payment_key", "payment_attempt", "payment_intent"):
        op.drop_table(table)
