"""Writing a log to a directory of static files, in the layout of `app.ledger.verify.directory`.

Full tiles and bundles first, then what is partial, the checkpoint last: an interrupted export has no checkpoint, or
the one of the smaller size that it completed before. Files are complete or absent (renamed into place), so that a
second run keeps the full ones and goes on. Nothing is verified here: verify the directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from app.errors import Conflict, Unavailable
from app.ledger.verify.directory import CHECKPOINT, CHECKPOINTS, COMPRESSED, KEYS, compress
from app.ledger.verify.report import Place, TamperedError
from app.ledger.verify.source import Bundle, LogSource, split_bundle
from app.ledger.verify.trust import read_claim
from app.tlog.checkpoint import Checkpoint
from app.tlog.tile import TILE_BYTES, TILE_WIDTH, BundleId, TileId, format_bundle, tile_path, tile_width, tiles_for_size

Progress = Callable[[int, int], None]
"""Called with how many entries are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What a run wrote: files, and those that were there already."""

    checkpoint: Checkpoint
    written: int
    kept: int


def write_export(
    source: LogSource, directory: Path, *, compressed: bool = False, progress: Progress | None = None
) -> Exported:
    """Write the log up to its newest checkpoint; return what was done.

    Raises Conflict if the directory holds another log, or a later state of this one; Unavailable if the log has no
    checkpoint yet or the disk refuses; TamperedError if the source has not what its checkpoint says.
    """
    note = source.find_checkpoint()
    if note is None:
        raise Unavailable("the log has published no checkpoint yet: nothing to export", code="not_published")
    checkpoint = read_claim(note, CHECKPOINT)
    _refuse_other_log(directory, checkpoint)
    writer = _Writer(directory)
    try:
        _write_bundles(source, writer, checkpoint.size, compressed=compressed, progress=progress)
        _write_upper_tiles(source, writer, checkpoint.size)
        writer.write(KEYS, "".join(f"{key}\n" for key in source.list_keys()).encode())
        writer.write(CHECKPOINTS, b"".join(_format_checkpoints(source, checkpoint.size)))
        writer.write(CHECKPOINT, note)
    except OSError as error:
        raise Unavailable(f"cannot write {error.filename or directory}: {error.strerror}") from error
    return Exported(checkpoint=checkpoint, written=writer.written, kept=writer.kept)


class _Writer:
    """Files of one directory, each complete or absent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.written = 0
        self.kept = 0

    def write(self, path: str, data: bytes) -> None:
        file = self._directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f"{file.name}.new")
        beside.write_bytes(data)
        beside.replace(file)
        self.written += 1

    def has_full_tile(self, path: str) -> bool:
        try:
            full = (self._directory / path).stat().st_size == TILE_BYTES
        except FileNotFoundError:
            full = False
        self.kept += full
        return full

    def has_full_bundle(self, path: str) -> bool:
        try:
            entries = split_bundle((self._directory / path).read_bytes())
            full = entries is not None and len(entries) == TILE_WIDTH
        except FileNotFoundError:
            full = (self._directory / (path + COMPRESSED)).exists()
        self.kept += full
        return full


def _refuse_other_log(directory: Path, checkpoint: Checkpoint) -> None:
    """Raise Conflict rather than mix two logs, or replace a checkpoint by an earlier one."""
    try:
        there = read_claim((directory / CHECKPOINT).read_bytes(), CHECKPOINT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"cannot read {directory}: {error.strerror}") from error
    if there.origin != checkpoint.origin or there.size > checkpoint.size:
        raise Conflict(
            f"{directory} holds {there.origin} at size {there.size}; this is {checkpoint.origin} at size "
            f"{checkpoint.size}. Export it into another directory",
            code="export_conflict",
        )


def _write_bundles(
    source: LogSource, writer: _Writer, size: int, *, compressed: bool, progress: Progress | None
) -> None:
    """Write the bundles and the tiles beside them; full ones that are there are kept."""
    bundles = -(-size // TILE_WIDTH)
    for missing, run in groupby(range(bundles), lambda number: not _is_there(writer, number, size)):
        numbers = list(run)
        if missing:
            for bundle in source.iter_bundles(numbers[0], numbers[-1] + 1, size):
                _write_bundle(writer, bundle, size, compressed=compressed)
                if progress:
                    progress(min(size, (bundle.number + 1) * TILE_WIDTH), size)
        elif progress:
            progress(min(size, (numbers[-1] + 1) * TILE_WIDTH), size)


def _is_there(writer: _Writer, number: int, size: int) -> bool:
    if tile_width(0, number, size) < TILE_WIDTH:
        return False
    tile = tile_path(TileId(level=0, index=number))
    return writer.has_full_tile(tile) and writer.has_full_bundle(tile_path(BundleId(index=number)))


def _write_bundle(writer: _Writer, bundle: Bundle, size: int, *, compressed: bool) -> None:
    width = tile_width(0, bundle.number, size)
    path = tile_path(BundleId(index=bundle.number, width=width))
    if len(bundle.entries) != width:
        first = bundle.number * TILE_WIDTH
        what = f"has {len(bundle.entries)} entries where the checkpoint says {width}"
        raise TamperedError(Place(what=what, entry_index=first + min(len(bundle.entries), width), path=path))
    data = format_bundle(bundle.entries)
    writer.write(path + COMPRESSED if compressed else path, compress(data) if compressed else data)
    writer.write(tile_path(TileId(level=0, index=bundle.number, width=width)), bundle.tiles[0])


def _write_upper_tiles(source: LogSource, writer: _Writer, size: int) -> None:
    for level in tiles_for_size(size)[1:]:
        for number in range(level.full_tiles + (level.partial_width > 0)):
            width = tile_width(level.level, number, size)
            path = tile_path(TileId(level=level.level, index=number, width=width))
            if width < TILE_WIDTH or not writer.has_full_tile(path):
                writer.write(path, source.read_tiles(level.level, number, width)[0])


def _format_checkpoints(source: LogSource, size: int) -> Iterator[bytes]:
    """Yield the lines of the checkpoints up to `size`."""
    checkpoints: Iterable[tuple[int, bytes]] = source.list_checkpoints()
    for at, note in checkpoints:
        if at <= size:
            yield json.dumps({"size": at, "checkpoint": note.decode()}, ensure_ascii=False).encode() + b"\n"
