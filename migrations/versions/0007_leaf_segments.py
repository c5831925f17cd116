"""A leaf is found by its hash within segments of 65,536 leaves.

In an index by hash alone each new leaf goes to a page of its own, of as many as the log is long, and a publication
writes them all. Here they go to the pages of the newest segment, and whoever looks for a hash looks once in each
segment. It is built in this transaction: nothing is published meanwhile, one to two seconds for a million leaves, and
appends go on. The code before is right with this index too, but reads the whole log to find a hash.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("leaf_segment_hash", "leaf", ["tenant", sa.text("(idx >> 16)"), sa.text("substr(hash, 1, 4)")])
    op.drop_index("leaf_hash", "leaf")


def downgrade() -> None:
    op.create_index("leaf_hash", "leaf", ["hash"], postgresql_using="hash")
    op.drop_index("leaf_segment_hash", "leaf")
