"""The tables as the code sees them. The migrations make them; a test proves that the two agree.

`entry`, `entry_ref`, `idempotency`, `leaf_run`, `tile`, `checkpoint`, `policy_archive` refuse UPDATE, DELETE and
TRUNCATE. `head` is the one row per tenant that moves, by compare-and-swap. A log's bundles of entries are no table:
they are a view of the entries; bundles of policies are `policy_bundle` and `policy_archive`.
`subject_key` and `sealed_field` are meant to be destroyed; on SQLite they keep their rowid (migration 0002 says why).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import UUID as POSTGRES_UUID
from sqlalchemy.types import TypeDecorator, TypeEngine

MAX_TENANTS = 10_000
OPEN = "open"
FROZEN = "frozen"

METADATA = MetaData()


class EntryId(TypeDecorator[UUID]):
    """A UUID that sorts as its 16 bytes do: `uuid` on PostgreSQL, a blob on SQLite."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of this database."""
        return POSTGRES_UUID(as_uuid=True) if dialect.name == "postgresql" else LargeBinary(16)

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Return what the driver takes."""
        return value if value is None or dialect.name == "postgresql" else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Return the UUID of what the driver gave."""
        return value if value is None or dialect.name == "postgresql" else UUID(bytes=value)


NOW_MS = {
    "postgresql": "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))",
}

tenant = Table(
    "tenant",
    METADATA,
    Column("id", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False, server_default=text(NOW_MS["postgresql"])),
    PrimaryKeyConstraint("id", name="tenant_pkey"),
    UniqueConstraint("origin", name="tenant_origin_key"),
    CheckConstraint("state IN ('open', 'frozen')", name="tenant_state_check"),
)

# On SQLite `seq` alone is the primary key (it is the rowid), and (tenant, seq) an index: entry_tenant_seq.
entry = Table(
    "entry",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), Identity(always=True), nullable=False),
    Column("id", EntryId, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=True),
    PrimaryKeyConstraint("tenant", "seq", name="entry_pkey"),
    UniqueConstraint("tenant", "id", name="entry_tenant_id_key"),
)
Index(
    "entry_tenant_subject_seq",
    entry.c.tenant,
    entry.c.subject,
    entry.c.seq,
    postgresql_where=entry.c.subject.is_not(None),
    sqlite_where=entry.c.subject.is_not(None),
)
# Written out, because a partial index serves only a query that says exactly its condition.
IS_LOG_EVENT = text("entry.action IN ('key.added', 'key.retired', 'log.frozen', 'log.recovered')")
Index(
    "entry_log_events",
    entry.c.tenant,
    entry.c.seq,
    postgresql_where=text("action IN ('key.added', 'key.retired', 'log.frozen', 'log.recovered')"),
    sqlite_where=text("action IN ('key.added', 'key.retired', 'log.frozen', 'log.recovered')"),
)
# As above: what the history of policies reads.
POLICY_EVENT = (
    "action IN ('policy.bundle_added', 'policy.data_changed', 'policy.bundle_shadowed', 'policy.bundle_activated',"
    " 'policy.bundle_retired', 'policy.replayed', 'policy.reverified')"
)
IS_POLICY_EVENT = text(f"entry.{POLICY_EVENT}")
Index(
    "entry_policy_events",
    entry.c.tenant,
    entry.c.seq,
    postgresql_where=text(POLICY_EVENT),
    sqlite_where=text(POLICY_EVENT),
)

entry_ref = Table(
    "entry_ref",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "value", "seq", name="entry_ref_pkey"),
    sqlite_with_rowid=False,
)

# `entry_id` names an entry of the same transaction; being a UUIDv7 it also says when the key was first used.
idempotency = Table(
    "idempotency",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("idem", LargeBinary(32), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("entry_id", EntryId, nullable=False),
    PrimaryKeyConstraint("tenant", "idem", name="idempotency_pkey"),
    sqlite_with_rowid=False,
)

# A run of leaves: up to 256 in a row in one tile, with `hashes` one after the other (app.adapters.sql.runs).
leaf_run = Table(
    "leaf_run",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant", "idx", name="leaf_run_pkey"),
    UniqueConstraint("tenant", "seq", name="leaf_run_tenant_seq_key"),
    CheckConstraint(
        "idx >= 0 AND width > 0 AND idx % 256 + width <= 256 AND length(hashes) = 32 * width",
        name="leaf_run_check",
    ),
)

# `marks` are the beginnings of the hashes of a leaf tile, by which a leaf is found; NULL above, and in older rows.
tile = Table(
    "tile",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("data", LargeBinary(8192), nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("marks", LargeBinary, nullable=True),
    PrimaryKeyConstraint("tenant", "level", "number", name="tile_pkey"),
)

head = Table(
    "head",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("settled_seq", BigInteger, nullable=False),
    Column("frozen", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", name="head_pkey"),
)

checkpoint = Table(
    "checkpoint",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("exposed_at_ms", BigInteger, nullable=False, server_default=text(NOW_MS["postgresql"])),
    PrimaryKeyConstraint("tenant", "size", name="checkpoint_pkey"),
)

subject = Table(
    "subject",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("erased_at_ms", BigInteger, nullable=True),
    PrimaryKeyConstraint("tenant", "id", name="subject_pkey"),
)

subject_key = Table(
    "subject_key",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("tenant", "subject", name="subject_key_pkey"),
)

sealed_field = Table(
    "sealed_field",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("entry_id", EntryId, nullable=False),
    Column("path", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("box", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant", "entry_id", "path", name="sealed_field_pkey"),
    Index("sealed_field_tenant_subject", "tenant", "subject"),
)

merchant_token = Table(
    "merchant_token",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger, nullable=True),
    PrimaryKeyConstraint("tenant", "id", name="merchant_token_pkey"),
    UniqueConstraint("digest", name="merchant_token_digest_key"),
)

# Times of payments are microseconds since 1970, so that a datetime comes back as it was stored.
payment_intent = Table(
    "payment_intent",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("psp", Text, nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("subject", Text, nullable=True),
    Column("state", Text, nullable=False),
    Column("code", Text, nullable=True),
    Column("decision_id", Text, nullable=True),
    Column("active_attempt_id", Text, nullable=True),
    Column("next_check_at_us", BigInteger, nullable=True),
    Column("created_at_us", BigInteger, nullable=False),
    Column("updated_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "id", name="payment_intent_pkey"),
)
Index(
    "payment_intent_due",
    payment_intent.c.next_check_at_us,
    postgresql_where=payment_intent.c.next_check_at_us.is_not(None),
    sqlite_where=payment_intent.c.next_check_at_us.is_not(None),
)

payment_attempt = Table(
    "payment_attempt",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("intent_id", Text, nullable=False),
    Column("psp", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text, nullable=True),
    Column("psp_reference", Text, nullable=True),
    Column("sends", Integer, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("last_sent_at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "id", name="payment_attempt_pkey"),
    UniqueConstraint("key", name="payment_attempt_key_key"),
)
# Two live attempts of one payment could both charge: the database refuses the second, whatever the code does.
Index(
    "payment_attempt_one_live",
    payment_attempt.c.tenant,
    payment_attempt.c.intent_id,
    unique=True,
    postgresql_where=payment_attempt.c.live,
    sqlite_where=payment_attempt.c.live,
)

payment_key = Table(
    "payment_key",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("idem", LargeBinary(32), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("intent_id", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "idem", name="payment_key_pkey"),
)

policy_archive = Table(
    "policy_archive",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("archive", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant", "digest", name="policy_archive_pkey"),
)

# Four eyes in the database too: no approver who is the author or the proposer, but for Assay's own first bundle.
policy_bundle = Table(
    "policy_bundle",
    METADATA,
    Column("tenant", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("proposer", Text, nullable=True),
    Column("approver", Text, nullable=True),
    Column("base", Text, nullable=True),
    Column("reports", Text, nullable=False),
    Column("added_id", EntryId, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "digest", name="policy_bundle_pkey"),
    UniqueConstraint("tenant", "added_id", name="policy_bundle_tenant_added_id_key"),
    CheckConstraint("state IN ('draft', 'shadow', 'active', 'retired')", name="policy_bundle_state_check"),
    CheckConstraint("state <> 'active' OR approver IS NOT NULL", name="policy_bundle_approved_check"),
    CheckConstraint(
        "approver IS NULL"
        " OR (approver = 'operator:assay' AND author = 'operator:assay')"
        " OR (approver NOT IN ('operator:assay', author, proposer) AND proposer IS NOT NULL)",
        name="policy_bundle_four_eyes_check",
    ),
)
for _state in ("active", "shadow"):
    Index(
        f"policy_bundle_one_{_state}",
        policy_bundle.c.tenant,
        unique=True,
        postgresql_where=text(f"state = '{_state}'"),
        sqlite_where=text(f"state = '{_state}'"),
    )
