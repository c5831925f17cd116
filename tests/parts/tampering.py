"""What somebody who can write to a database, an export or a receipt might do to it, and where the verifier must point.

The attacker has everything but the signing key: triggers are dropped, hashes recomputed where that helps. The auditor
remembers the head of size 700. `scripts/tamper_report.py` prints this list.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.adapters.sql.audit import DatabaseSource
from app.ledger.export import write_export
from app.ledger.verify import (
    ExportSource,
    Options,
    RememberedHead,
    Report,
    read_trust,
    verify_log,
    verify_receipt_file,
)
from app.ledger.verify.trust import read_claim
from app.tlog.checkpoint import Checkpoint, sign_checkpoint
from app.tlog.note import format_note
from app.tlog.receipt import Receipt, format_receipt
from app.tlog.tile import TreeEdge, expand_tile, prove_inclusion_from_tiles
from app.tlog.tree import leaf_hash
from tests.parts.built_logs import SIGNER, TENANT, SeedSigner, build_sqlite

SIZES = (1, 5, 300, 700)
SIZE = SIZES[-1]
TRUST = read_trust(None, [SIGNER.vkey])
STRANGER = SeedSigner(TENANT.origin, 99)
RECEIPT_INDEX = 520

SQL_FILE = Path(__file__).with_name("tampering.sql")
TABLES = ("entry", "entry_ref", "idempotency", "leaf_run", "tile", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One attack. `names` must all stand in what the verifier says."""

    form: str
    name: str
    apply: Callable[[Path], object]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The untouched log in each form, and what the auditor remembers of it."""

    database: Path
    export: Path
    receipt: Path
    older_database: Path
    older_export: Path
    remembered: RememberedHead


def build_sound(directory: Path) -> Sound:
    """Build the log of SIZES in each form, and as it was at size 300."""
    for name, sizes in (("older", SIZES[:-1]), ("log", SIZES)):
        build_sqlite(directory / f"{name}.db", sizes).store.close()
        write_export(source_of(directory / f"{name}.db"), directory / name)
    source = source_of(directory / "log.db")
    note = source.find_checkpoint() or b""
    claim = read_claim(note, "")
    bodies = [entry for bundle in source.iter_bundles(0, 3, SIZE) for entry in bundle.entries]
    proof = prove_inclusion_from_tiles(
        RECEIPT_INDEX, SIZE, lambda level, number, width: expand_tile(source.read_tiles(level, number, width)[0])
    )
    receipt = Receipt(index=RECEIPT_INDEX, proof=tuple(proof), checkpoint=note, extra=bodies[RECEIPT_INDEX])
    (directory / "receipt").write_bytes(format_receipt(receipt))
    source.close()
    return Sound(
        database=directory / "log.db",
        export=directory / "log",
        receipt=directory / "receipt",
        older_database=directory / "older.db",
        older_export=directory / "older",
        remembered=RememberedHead(
            origin=claim.origin, size=claim.size, root=claim.root, note=note, checkpoints=len(SIZES)
        ),
    )


def source_of(database: Path) -> DatabaseSource:
    return DatabaseSource(f"sqlite:///{database}", TENANT.id)


def verify_database(database: Path, remembered: RememberedHead | None) -> Report:
    source = source_of(database)
    try:
        return verify_log(source, TRUST, Options(deep=True, remembered=remembered))
    finally:
        source.close()


def verify_export(directory: Path, remembered: RememberedHead | None) -> Report:
    return verify_log(ExportSource(directory), TRUST, Options(deep=True, remembered=remembered))


def verify_receipt(file: Path, remembered: RememberedHead | None) -> Report:
    return verify_receipt_file(file.read_bytes(), TRUST, remembered=remembered)


def run_mutation(mutation: Mutation, sound: Sound, workplace: Path) -> Report:
    """Apply the mutation to a copy, and return what the verifier says of it."""
    if mutation.form == "database":
        copy = Path(shutil.copy(sound.database, workplace / "copy.db"))
        mutation.apply(copy)
        return verify_database(copy, sound.remembered)
    if mutation.form == "export":
        copy = Path(shutil.copytree(sound.export, workplace / "copy"))
        mutation.apply(copy)
        return verify_export(copy, sound.remembered)
    copy = Path(shutil.copy(sound.receipt, workplace / "copy"))
    mutation.apply(copy)
    return verify_receipt(copy, sound.remembered)


def open_tampered(database: Path) -> sqlite3.Connection:
    """Return a connection on which nothing is refused any more."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for table in TABLES:
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER {table}_refuses_{verb}")
    connection.create_function("flip", 2, flip, deterministic=True)
    return connection


def flip(data: bytes, at: int) -> bytes:
    """Return the data with the lowest bit of one byte changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _script(script: str) -> Callable[[Path], None]:
    def apply(database: Path) -> None:
        connection = open_tampered(database)
        connection.executescript(script)
        connection.close()

    return apply


def _rebuild(change: Callable[[list[bytes]], object]) -> Callable[[Path], None]:
    """Change the entries and recompute every hash: leaves, tiles, head."""

    def apply(database: Path) -> None:
        connection = open_tampered(database)
        bodies = [body for (body,) in connection.execute("SELECT body FROM entry ORDER BY seq")]
        change(bodies)
        connection.executescript("DELETE FROM leaf_run; DELETE FROM entry; DELETE FROM tile;")
        edge, tiles = TreeEdge().append([leaf_hash(body) for body in bodies])
        for index, body in enumerate(bodies):
            values = (index + 1, TENANT.id, index.to_bytes(16, "big"), body, "document.recorded")
            connection.execute("INSERT INTO entry (seq, tenant, id, body, action) VALUES (?, ?, ?, ?, ?)", values)
            run = (TENANT.id, index, index + 1, 1, leaf_hash(body))
            connection.execute("INSERT INTO leaf_run VALUES (?, ?, ?, ?, ?)", run)
        above = {tile.id.index: tile.data for tile in tiles if tile.id.level == 1}
        for tile in tiles:
            if tile.id.width == 256:
                root = above[0][tile.id.index * 32 : tile.id.index * 32 + 32]
                row = (TENANT.id, tile.id.level, tile.id.index, tile.data, root, None)
                connection.execute("INSERT INTO tile VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE head SET size = ?, root = ?", (len(bodies), edge.frontier.root()))
        connection.close()

    return apply


def forge_checkpoint(signer: SeedSigner, size: int) -> bytes:
    checkpoint = Checkpoint(origin=TENANT.origin, size=size, root=bytes(32))
    return format_note(sign_checkpoint(checkpoint, signer.key, signer.sign))


def _insert_checkpoint(note: bytes, size: int) -> Callable[[Path], None]:
    def apply(database: Path) -> None:
        connection = open_tampered(database)
        connection.execute("INSERT INTO checkpoint (tenant, size, note) VALUES (?, ?, ?)", (TENANT.id, size, note))
        connection.close()

    return apply


def list_in_database(sound: Sound) -> Iterator[Mutation]:
    for block in SQL_FILE.read_text().split("\n--- ")[1:]:
        title, _, script = block.partition("\n")
        name, _, parts = title.partition(" => ")
        yield Mutation(form="database", name=name, apply=_script(script), names=tuple(parts.split(" | ")))

    rest: tuple[tuple[str, Callable[[Path], object], tuple[str, ...]], ...] = (
        ("add a checkpoint of another key", _insert_checkpoint(forge_checkpoint(STRANGER, 200), 200), ("size 200",)),
        (
            "add a false checkpoint by the log's key",
            _insert_checkpoint(forge_checkpoint(SIGNER, 699), 699),
            ("size 699",),
        ),
        ("restore an older database", lambda copy: shutil.copy(sound.older_database, copy), ("size 300", "size 700")),
        (
            "change an entry and every hash",
            _rebuild(lambda b: b.__setitem__(100, b[101])),
            ("entry 5,", "5 to 299"),
        ),
        ("delete an entry, recompute every hash", _rebuild(lambda b: b.pop(400)), ("head row",)),
        ("insert an entry, recompute every hash", _rebuild(lambda b: b.insert(400, b[0])), ("300 to 699",)),
        ("reverse the entries, recompute every hash", _rebuild(lambda b: b.reverse()), ("entry 0,",)),
    )
    for name, apply, names in rest:
        yield Mutation(form="database", name=name, apply=apply, names=names)
