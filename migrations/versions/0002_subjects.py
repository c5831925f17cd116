"""Subjects: who there is, the key of each, and what is sealed under it. These rows are meant to be destroyed.

On SQLite all three keep their rowid: new rows are then appended and no page is rebuilt around a key, so that with
`secure_delete` no copy of a destroyed key stays behind (tests/integration/test_erase_files.py looks for one).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("subject", "subject_key", "sealed_field")
APP_ROLE = "assay_app"


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    entry_id = UUID(as_uuid=True) if dialect == "postgresql" else sa.LargeBinary(16)

    op.create_table(
        "subject",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("erased_at_ms", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name="subject_pkey"),
    )
    op.create_table(
        "subject_key",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "subject", name="subject_key_pkey"),
    )
    op.create_table(
        "sealed_field",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("entry_id", entry_id, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("box", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "entry_id", "path", name="sealed_field_pkey"),
    )
    op.create_index("sealed_field_tenant_subject", "sealed_field", ["tenant", "subject"])
    if dialect == "postgresql":
        op.execute("ALTER TABLE sealed_field ALTER COLUMN box SET STORAGE EXTERNAL")  # ciphertext does not compress
        _grant()


def _grant() -> None:
    op.execute(f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
                GRANT SELECT, INSERT, DELETE ON subject_key, sealed_field TO {APP_ROLE};
                GRANT SELECT, INSERT, UPDATE ON subject TO {APP_ROLE};
            END IF;
        END $$""")


def downgrade() -> None:
    """Only without subjects: personal data is never dropped by a migration, nor is the memory of an erasure."""
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM subject)")).scalar():
        raise RuntimeError("there are subjects: refusing to drop them")
    for table in reversed(TABLES):
        op.drop_table(table)
