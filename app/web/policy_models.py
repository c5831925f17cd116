"""Request and response bodies of the policies' API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.web.models import PAGE_DEFAULT, Model

POLICY_PAGE_LIMIT = 200
_SHA256 = "^[0-9a-f]{64}$"
_NAME = "^[a-z][a-z0-9_-]{0,63}$"
_TABLE = "^[a-z][a-z0-9_]{0,63}$"
_CODE = "^[a-z][a-z0-9_.]{0,63}$"
_COUNT_LIMIT = 2**53 - 1
Digest = Annotated[str, Field(pattern=_SHA256)]
Count = Annotated[int, Field(ge=0, le=_COUNT_LIMIT, strict=True)]


class ArchivePath(BaseModel):
    """A bundle by the name under which OPA asks for it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}\.tar\.gz$")


class DigestPath(BaseModel):
    """A bundle by the digest of its content."""

    digest: Digest


class TablePath(BaseModel):
    """A table of a bundle's data."""

    table: str = Field(pattern=_TABLE)


class ArchiveQuery(Model):
    """What the archive holds."""

    tests: bool = Field(default=False, description="With the tests beside the policies, as its author sent it.")


class PushQuery(Model):
    """How the bundle is called, if its manifest does not say it."""

    name: str | None = Field(default=None, pattern=_NAME)


class PageQuery(Model):
    """Which page, the newest first."""

    cursor: str | None = Field(default=None, pattern="^[0-9a-f]{1,32}$", description="`next` of the page before.")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=POLICY_PAGE_LIMIT)


class DiffQuery(Model):
    """Between which bundles; `from` is the active one when absent."""

    from_digest: Digest | None = Field(default=None, alias="from")
    to_digest: Digest = Field(alias="to")


class TableQuery(Model):
    """Of which bundle (the active one when absent), and how."""

    bundle: Digest | None = None
    format: Literal["json", "csv"] = "json"


class ChangeQuery(Model):
    """Of which bundle (the active one when absent); the version that a CSV cannot say."""

    bundle: Digest | None = None
    version: str | None = Field(default=None, min_length=1, max_length=64)


class CoverageIn(Model):
    """The report of a coverage run."""

    digest: Digest
    percent: int = Field(ge=0, le=100, strict=True)


class ParityIn(Model):
    """The report of a run of both engines over the same cases."""

    digest: Digest
    cases: Count
    differences: Count


class ImpactIn(Model):
    """The report of a replay of past decisions against the bundle `base`, as the log has it."""

    digest: Digest
    base: Digest
    decisions: Count
    changed: Count
    deny_to_allow: Count


class ProposeIn(Model):
    """The reports that the approver is to rely on, each by digest and counts."""

    coverage: CoverageIn | None = None
    parity: ParityIn | None = None
    impact: ImpactIn | None = None


class ApproveIn(Model):
    """What the second person says."""

    replaces: Digest | None = Field(description="The active bundle that the approver looked at; it gives way.")
    waive: list[Literal["coverage", "parity", "impact"]] = Field(
        default_factory=list, max_length=3, description="Reports that are done without."
    )
    accept_deny_to_allow: Count = Field(
        default=0, description="How many past decisions would turn from deny to allow; must be the report's number."
    )


class RetireIn(Model):
    """Why the bundle is given up."""

    reason: str = Field(default="not_needed", pattern=_CODE)


class BundleOut(BaseModel):
    """A bundle, and how far it is on its way into force."""

    digest: str
    name: str
    state: Literal["draft", "shadow", "active", "retired"]
    author: str
    proposer: str | None
    approver: str | None
    base: str | None = Field(description="The bundle that it was derived from, by a change of data.")
    reports: dict[str, Any]
    added: str = Field(description="The entry that added it.")
    changed_at_ms: int


class BundlePage(BaseModel):
    """Bundles, the newest first; pass `next` as `cursor` to go on."""

    bundles: list[BundleOut]
    next: str | None


class HistoryItem(BaseModel):
    """An entry about policies. `index` is null until it is published."""

    id: str
    index: int | None
    entry: dict[str, Any]


class HistoryPage(BaseModel):
    """The history of the policies, the newest first; pass `next` as `cursor` to go on."""

    history: list[HistoryItem]
    next: str | None


class TableChange(BaseModel):
    """How many rows a table has now, and how many came and went; a changed row came and went."""

    rows: int
    added: int
    removed: int


class DiffOut(BaseModel):
    """What one bundle changes of another."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    text: str = Field(description="A unified diff of the policies.")
    cut_off: bool
    tables: dict[str, TableChange]


class TableItem(BaseModel):
    """A table of a bundle's data. `rows` is null if it is no list of rows; then it is read and written as JSON."""

    name: str
    version: str
    digest: str
    rows: int | None
    has_schema: bool


class TablesOut(BaseModel):
    """The tables of a bundle."""

    bundle: str
    tables: list[TableItem]


class ChangedOut(BaseModel):
    """The draft with the table changed."""

    bundle: BundleOut
    change: TableChange
