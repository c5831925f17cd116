"""A log as a directory of files: C2SP tlog-tiles, as any web server or object store would hold it.

checkpoint            the newest signed checkpoint
tile/<L>/<N>[.p/<W>]  tiles
tile/entries/<N>…     bundles of entries, perhaps with .gz
checkpoints           older checkpoints: one JSON object {"size", "checkpoint"} per line
keys                  verifier keys that the exporter was told, one per line; nobody vouches for them
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import Malformed, Rejected, Unavailable
from app.ledger.canonical import parse_json
from app.ledger.ports import Head
from app.ledger.verify.report import Place, TamperedError
from app.ledger.verify.source import Bundle, split_bundle
from app.tlog.note import MAX_NOTE_BYTES
from app.tlog.tile import (
    MAX_ENTRY_BYTES,
    TILE_WIDTH,
    BundleId,
    TileId,
    parse_tile_path,
    tile_path,
    tile_width,
)
from app.tlog.tree import HASH_SIZE

CHECKPOINT = "checkpoint"
CHECKPOINTS = "checkpoints"
KEYS = "keys"
COMPRESSED = ".gz"
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_KEYS_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A log read from `directory`."""

    directory: Path

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.directory)

    def reopen(self) -> ExportSource:
        """Return itself: files are opened one by one."""
        return self

    def find_checkpoint(self) -> bytes | None:
        """Return the file `checkpoint`. Without it this is no export, or an interrupted one: Unavailable."""
        data = self._find(CHECKPOINT, MAX_NOTE_BYTES)
        if data is None:
            raise Unavailable(f"{self.directory} has no file `checkpoint`: not an export, or one that was interrupted")
        return data

    def list_checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Yield the checkpoints of the file `checkpoints`, if there is one."""
        try:
            with (self.directory / CHECKPOINTS).open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    yield self._parse_checkpoint(line, number)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unreadable(CHECKPOINTS, error) from error

    def list_keys(self) -> tuple[str, ...]:
        """Return the lines of the file `keys`."""
        data = self._find(KEYS, MAX_KEYS_BYTES) or b""
        return tuple(data.decode(errors="replace").splitlines())

    def find_head(self) -> Head | None:
        """Return None: an export ends with its checkpoint."""
        return None

    def iter_bundles(self, start: int, stop: int, size: int) -> Iterator[Bundle]:
        """Yield the bundles with their tiles, file by file."""
        for number in range(start, stop):
            width = tile_width(0, number, size)
            path = tile_path(BundleId(index=number, width=width))
            entries = split_bundle(self.read_bundle(path, number * TILE_WIDTH))
            if entries is None:
                raise TamperedError(
                    Place(what="cut short, or not a bundle", entry_index=number * TILE_WIDTH, path=path)
                )
            yield Bundle(number, entries, self.read_tiles(0, number, width))

    def read_bundle(self, path: str, first_index: int) -> bytes:
        """Return the bytes of a bundle, decompressed. Raises TamperedError if there is none."""
        data = self._find(path, MAX_BUNDLE_BYTES)
        if data is not None:
            return data
        packed = self._find(path + COMPRESSED, MAX_BUNDLE_BYTES)
        if packed is None:
            raise TamperedError(Place(what="the file is missing", entry_index=first_index, path=path))
        try:
            return _decompress(packed)
        except (OSError, EOFError, zlib.error, Malformed) as error:
            what = f"not gzip: {error}"
            raise TamperedError(Place(what=what, entry_index=first_index, path=path + COMPRESSED)) from error

    def read_tiles(self, level: int, number: int, width: int) -> tuple[bytes, ...]:
        """Return the one copy of the tile."""
        path = tile_path(TileId(level=level, index=number, width=width))
        data = self._find(path, (TILE_WIDTH + 1) * HASH_SIZE)
        if data is None:
            raise TamperedError(Place(what="the file is missing", path=path))
        return (data,)

    def name_tile(self, level: int, number: int, width: int, _copy: int) -> str:
        """Return the file's path."""
        return tile_path(TileId(level=level, index=number, width=width))

    def verify_rest(self, start: int, size: int, *, deep: bool) -> None:  # noqa: ARG002 - it derives nothing from entries
        """Verify that each other tile or bundle is a prefix of one that was verified: left by a smaller size."""
        for directory, _, files in os.walk(self.directory / "tile"):
            for file in sorted(files):
                path = os.path.relpath(os.path.join(directory, file), self.directory)  # noqa: PTH118 - for speed
                try:
                    tile = parse_tile_path(path.removesuffix(COMPRESSED))
                except Malformed:
                    continue  # not of a log
                self._verify_prefix(tile, path, size)

    def list_unproven(self, *, deep: bool) -> tuple[str, ...]:  # noqa: ARG002 - the same at any depth
        """Return that the file of keys is hearsay, and that a list of checkpoints may have gaps."""
        return ("the file `keys`, a convenience; and that no older checkpoint was left out of `checkpoints`",)

    def count_pending(self) -> int:
        """Return 0."""
        return 0

    def has_pending(self, entry_id: str) -> bool:  # noqa: ARG002 - an export has none
        """Return False."""
        return False

    def _verify_prefix(self, tile: TileId | BundleId, path: str, size: int) -> None:
        level = tile.level if isinstance(tile, TileId) else 0
        width = tile_width(level, tile.index, size)
        if tile.width == width:
            return
        if tile.width > width:
            raise TamperedError(Place(what=f"beyond the tree of {size} entries", path=path))
        if isinstance(tile, TileId):
            whole, part = self.read_tiles(level, tile.index, width)[0], self._find(path, (TILE_WIDTH + 1) * HASH_SIZE)
            same = part == whole[: tile.width * HASH_SIZE]
        else:
            first = tile.index * TILE_WIDTH
            entries = split_bundle(self.read_bundle(tile_path(BundleId(index=tile.index, width=width)), first))
            same = split_bundle(self.read_bundle(tile_path(tile), first)) == (entries or [])[: tile.width]
        if not same:
            raise TamperedError(Place(what="not the beginning of the wider one", path=path))

    def _find(self, path: str, limit_bytes: int) -> bytes | None:
        """Return at most `limit_bytes` + 1 bytes of a file, or None if there is no such file."""
        try:
            file = os.open(f"{self.directory}/{path}", os.O_RDONLY)
            try:  # a buffer of the file's size: one of the limit's would take longer than to read into it
                size = os.fstat(file).st_size
                return os.read(file, min(size, limit_bytes) + 1)
            finally:
                os.close(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error

    def _parse_checkpoint(self, line: bytes, number: int) -> tuple[int, bytes]:
        try:
            document = parse_json(line, limit_bytes=2 * MAX_NOTE_BYTES)
            size, note = document["size"], document["checkpoint"]
            if (
                not line.endswith(b"\n")
                or not isinstance(size, int)
                or size < 0
                or document.keys() - {"size", "checkpoint"}
            ):
                raise Malformed("not a checkpoint's line")
            return size, note.encode()
        except (Rejected, LookupError, TypeError, AttributeError, ValueError) as error:
            raise TamperedError(Place(what="not a checkpoint's line", path=f"{CHECKPOINTS}, line {number}")) from error


def _unreadable(path: str, error: OSError) -> Unavailable:
    return Unavailable(f"cannot read {path}: {error.strerror or error}")


def _decompress(packed: bytes) -> bytes:
    """Return the one gzip member's content, bounded."""
    machine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = machine.decompress(packed, MAX_BUNDLE_BYTES)
    if not machine.eof or machine.unused_data:
        raise Malformed("cut short, too long, or followed by other bytes")
    return data


def compress(data: bytes) -> bytes:
    """Return `data` as one gzip member; the same bytes give the same file."""
    return gzip.compress(data, compresslevel=6, mtime=0)
