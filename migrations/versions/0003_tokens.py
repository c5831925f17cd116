"""Merchants' tokens: by their digest under the pepper, which is not in the database."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP_ROLE = "assay_app"


def upgrade() -> None:
    op.create_table(
        "merchant_token",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("issued_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name="merchant_token_pkey"),
        sa.UniqueConstraint("digest", name="merchant_token_digest_key"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"""
            DO $$ BEGIN
                IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                    GRANT SELECT, INSERT, UPDATE ON merchant_token TO {APP_ROLE};
                END IF;
            END $$""")


def downgrade() -> None:
    """Only without tokens: dropping them would lock every merchant out."""
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM merchant_token)")).scalar():
        raise RuntimeError("there are tokens: refusing to drop them")
    op.drop_table("merchant_token")
