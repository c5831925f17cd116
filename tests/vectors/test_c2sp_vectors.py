"""Vectors for the C2SP text formats, taken from other implementations' tests and the specs' worked examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import Rejected
from app.tlog.checkpoint import format_checkpoint, parse_checkpoint
from app.tlog.note import (
    NoKnownSignature,
    find_known,
    format_note,
    format_vkey,
    parse_note,
    parse_vkey,
    verify_note,
)
from app.tlog.receipt import format_receipt, parse_receipt
from app.tlog.tile import BundleId, LevelTiles, TileId, parse_tile_path, tile_path, tiles_for_size


def _load(shared_dir: Path, name: str) -> Any:
    return json.loads((shared_dir / "vectors/derived" / name).read_bytes())


def test_checkpoints_parse_exactly_when_c2sp_allows_them(shared_dir: Path) -> None:
    cases = _load(shared_dir, "checkpoint_parse.json")["cases"]
    assert len(cases) == 11
    for case in cases:
        text = case["m"].encode()
        if case["strict_c2sp_ok"]:
            assert format_checkpoint(parse_checkpoint(text)) == text
        else:
            with pytest.raises(Rejected):
                parse_checkpoint(text)


def test_signed_notes_verify_for_exactly_the_keys_that_signed(shared_dir: Path) -> None:
    cases = _load(shared_dir, "signed_note_examples.json")["cases"]
    assert len(cases) == 5
    for case in cases:
        note = parse_note(case["note"].encode())
        keys = [parse_vkey(vkey) for vkey in case["vkeys"]]
        assert format_note(note) == case["note"].encode()
        assert [format_vkey(key) for key in keys] == case["vkeys"]
        known = {line for _, line in find_known(note, keys)}
        assert [line.name for line in note.signatures if line not in known] == case["unverified"]
        if case["ok"]:
            assert [key.name for key in verify_note(note, keys)] == case["verified"]
        else:
            with pytest.raises(NoKnownSignature):
                verify_note(note, keys)


def test_keys_of_other_signature_types_are_refused(shared_dir: Path) -> None:
    vectors = _load(shared_dir, "signed_note_examples.json")
    assert format_vkey(parse_vkey(vectors["tessera_log_vkey"])) == vectors["tessera_log_vkey"]
    (ecdsa,) = vectors["vkeys_of_other_types_to_ignore_or_reject"]
    with pytest.raises(Rejected, match="not supported"):
        parse_vkey(ecdsa)


def test_the_public_go_checksum_database_parses_as_a_checkpoint(shared_dir: Path) -> None:
    sumdb = _load(shared_dir, "signed_note_examples.json")["cases"][4]
    checkpoint = parse_checkpoint(parse_note(sumdb["note"].encode()).text)
    assert (checkpoint.origin, checkpoint.size) == ("go.sum database tree", 35_225_469)


def test_tile_indexes_have_the_paths_of_the_spec(shared_dir: Path) -> None:
    paths = _load(shared_dir, "tile_paths.json")["index_to_path"]
    assert len(paths) == 10
    for index, number in paths.items():
        tile, bundle = TileId(level=3, index=int(index), width=9), BundleId(index=int(index))
        assert tile_path(tile) == f"tile/3/{number}.p/9"
        assert tile_path(bundle) == f"tile/entries/{number}"
        assert parse_tile_path(tile_path(tile)) == tile
        assert parse_tile_path(tile_path(bundle)) == bundle


def test_tree_sizes_have_the_tiles_of_the_spec(shared_dir: Path) -> None:
    sizes = _load(shared_dir, "tile_paths.json")["size_to_levels_full_and_partial_width"]
    assert len(sizes) == 7
    for size, levels in sizes.items():
        assert tiles_for_size(int(size)) == [LevelTiles(**level) for level in levels]


def test_tlog_proofs_parse_exactly_when_the_reference_does(shared_dir: Path) -> None:
    cases = _load(shared_dir, "tlog_proof_parse.json")["cases"]
    assert len(cases) == 10
    for case in cases:
        data = case["m"].encode()
        if case["ok"]:
            receipt = parse_receipt(data)
            extra = None if receipt.extra is None else receipt.extra.decode()
            assert (receipt.index, len(receipt.proof), extra) == (case["index"], case["hashes"], case["extra"])
            assert format_receipt(receipt) == data
        else:
            with pytest.raises(Rejected):
                parse_receipt(data)
