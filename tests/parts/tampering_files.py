"""The mutations of an export and of a receipt (see tampering.py)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from app.ledger.verify.source import split_bundle
from app.tlog.receipt import Receipt, format_receipt, parse_receipt
from tests.parts.built_logs import SIGNER
from tests.parts.tampering import RECEIPT_INDEX, SIZE, Mutation, Sound, flip, forge_checkpoint, list_in_database


def _file(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        file = directory / path
        file.write_bytes(change(file.read_bytes()))

    return apply


def _entries(path: str, change: Callable[[list[bytes]], object]) -> Callable[[Path], None]:
    """Change the entries of a bundle; its form stays right."""

    def rewrite(data: bytes) -> bytes:
        entries = split_bundle(data) or []
        change(entries)
        return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)

    return _file(path, rewrite)


def _swap_files(left: str, right: str) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        first, second = (directory / left).read_bytes(), (directory / right).read_bytes()
        (directory / left).write_bytes(second)
        (directory / right).write_bytes(first)

    return apply


def _add_file(path: str, origin: str) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((directory / origin).read_bytes()[: 32 * 5])

    return apply


def _swap_items(entries: list[bytes], left: int, right: int) -> None:
    entries[left], entries[right] = entries[right], entries[left]


def add(name: str, apply: Callable[[Path], object], *names: str) -> Mutation:
    return Mutation(form="export", name=name, apply=apply, names=names)


def list_in_bundles() -> Iterator[Mutation]:
    full, edge = "tile/entries/001", "tile/entries/002.p/188"
    yield add("flip a byte of an entry", _entries(full, lambda e: e.__setitem__(7, flip(e[7], 50))), "entry 263 ", full)
    yield add(
        "flip a byte of the last entry",
        _entries(edge, lambda e: e.__setitem__(187, flip(e[187], 50))),
        "entry 699 ",
        edge,
    )
    yield add("flip a byte of an entry's length", _file(full, lambda d: flip(d, 1)), full)
    yield add("delete an entry", _entries(full, lambda e: e.pop(7)), "entry 263 ", "deleted")
    yield add("delete the first entry", _entries("tile/entries/000", lambda e: e.pop(0)), "entry 0 ", "deleted")
    yield add("delete the last entry", _entries(edge, lambda e: e.pop()), "entry 699,", "missing")
    yield add("insert an entry", _entries(full, lambda e: e.insert(7, b"{}")), "entry 263,", "inserted")
    yield add("insert a copy of a true entry", _entries(full, lambda e: e.insert(7, e[3])), "entry 263 ", "inserted")
    yield add("append an entry", _entries(edge, lambda e: e.append(b"{}")), "entry 700", "more than")
    yield add("swap two entries", _entries(full, lambda e: _swap_items(e, 7, 8)), "entry 263 ", "another order")
    yield add(
        "swap two distant entries", _entries(full, lambda e: _swap_items(e, 7, 200)), "entry 263 ", "another order"
    )
    yield add("cut a bundle short", _file(full, lambda d: d[:-1]), "entry 256,", full)
    yield add("cut the beginning of a bundle", _file(full, lambda d: d[1:]), full)
    yield add("empty a bundle", _file(full, lambda _: b""), "entry 256,", "missing")
    yield add("add a byte to a bundle", _file(full, lambda d: d + b"\0"), full)
    yield add("delete a bundle", lambda d: (d / full).unlink(), "entry 256,", full, "missing")
    yield add("delete the last bundle", lambda d: (d / edge).unlink(), edge, "missing")
    yield add("swap two bundles", _swap_files("tile/entries/000", full), "entry 0 ", "tile/entries/000")


def list_in_tiles() -> Iterator[Mutation]:
    full = "tile/entries/001"
    yield add("flip a byte of a full tile", _file("tile/0/001", lambda d: flip(d, 64)), "entry 258,", "tile/0/001")
    yield add(
        "flip a byte of a partial tile",
        _file("tile/0/002.p/188", lambda d: flip(d, 64)),
        "entry 514,",
        "tile/0/002.p/188",
    )
    yield add(
        "flip a byte of an upper tile", _file("tile/1/000.p/2", lambda d: flip(d, 40)), "tile/1/000.p/2", "hash 1"
    )
    yield add("cut a tile short", _file("tile/0/001", lambda d: d[:-1]), "tile/0/001")
    yield add("add to a tile", _file("tile/0/001", lambda d: d + bytes(32)), "tile/0/001")
    yield add("delete a tile", lambda d: (d / "tile/0/001").unlink(), "tile/0/001", "missing")
    yield add("delete an upper tile", lambda d: (d / "tile/1/000.p/2").unlink(), "tile/1/000.p/2", "missing")
    yield add("swap two tiles", _swap_files("tile/0/000", "tile/0/001"), "entry 0,", "tile/0/000")
    yield add("add a tile beyond the tree", _add_file("tile/0/003.p/5", "tile/0/000"), "tile/0/003.p/5", "beyond")
    yield add("add a bundle beyond the tree", _add_file("tile/entries/003.p/5", full), "tile/entries/003.p/5", "beyond")
    yield add("add a level", _add_file("tile/2/000.p/1", "tile/0/000"), "tile/2/000.p/1", "beyond")
    yield add(
        "forge an older partial tile", _add_file("tile/0/001.p/5", "tile/0/000"), "tile/0/001.p/5", "not the beginning"
    )


def list_in_checkpoints(sound: Sound) -> Iterator[Mutation]:
    yield add("flip a byte of the checkpoint's origin", _file("checkpoint", lambda d: flip(d, 3)), "checkpoint")
    yield add(
        "flip a byte of the checkpoint's size", _file("checkpoint", lambda d: flip(d, 17)), "checkpoint of size 600"
    )
    yield add("flip a byte of the checkpoint's root", _file("checkpoint", lambda d: flip(d, 30)), "checkpoint")
    yield add(
        "flip a byte of the signature's key id",
        _file("checkpoint", lambda d: flip(d, d.rindex(b" ") + 2)),
        "checkpoint",
        "another name or key id",
    )
    yield add(
        "replace the checkpoint by an older one",
        lambda d: shutil.copy(sound.older_export / "checkpoint", d),
        "smaller than it was",
        "size 300",
        "size 700",
    )
    yield add(
        "forge the checkpoint's root with the log's key",
        lambda d: (d / "checkpoint").write_bytes(forge_checkpoint(SIGNER, 700)),
        "checkpoint of size 700",
    )
    yield add(
        "replace it all by an older export",
        lambda d: (shutil.rmtree(d), shutil.copytree(sound.older_export, d)),
        "smaller than it was",
        "size 300",
        "size 700",
    )
    yield add(
        "flip a byte of an older checkpoint", _file("checkpoints", lambda d: flip(d, 60)), "checkpoint history, size 1"
    )
    yield add(
        "put older checkpoints into the wrong lines",
        _file("checkpoints", lambda d: d.replace(b'"size": 5,', b'"size": 6,')),
        "checkpoint of size 6",
    )
    yield add("cut the last line of older checkpoints", _file("checkpoints", lambda d: d[:-9]), "checkpoints, line 4")


def _receipt(change: Callable[[Receipt], Receipt]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        file.write_bytes(format_receipt(change(parse_receipt(file.read_bytes()))))

    return apply


def list_in_receipt(sound: Sound) -> Iterator[Mutation]:
    def add(name: str, apply: Callable[[Path], object], *names: str) -> Mutation:
        return Mutation(form="receipt", name=name, apply=apply, names=names)

    older = (sound.older_export / "checkpoint").read_bytes()
    entry = f"entry {RECEIPT_INDEX},"
    yield add("flip a byte of the entry", _receipt(lambda r: replace(r, extra=flip(r.extra or b"", 60))), entry)
    yield add("replace the entry", _receipt(lambda r: replace(r, extra=b"{}")), entry)
    yield add("change the index", _receipt(lambda r: replace(r, index=r.index + 1)), f"entry {RECEIPT_INDEX + 1},")
    yield add("put the index beyond the log", _receipt(lambda r: replace(r, index=SIZE)), f"entry {SIZE},")
    for place in range(3):
        changed = _receipt(
            lambda r, at=place: replace(r, proof=(*r.proof[:at], flip(r.proof[at], 9), *r.proof[at + 1 :]))
        )  # type: ignore[misc]
        yield add(f"flip a byte of proof hash {place}", changed, entry)
    yield add("drop the last proof hash", _receipt(lambda r: replace(r, proof=r.proof[:-1])), entry)
    yield add("drop the proof", _receipt(lambda r: replace(r, proof=())), entry)
    yield add("add a proof hash", _receipt(lambda r: replace(r, proof=(*r.proof, bytes(32)))), entry)
    yield add(
        "swap two proof hashes", _receipt(lambda r: replace(r, proof=(r.proof[1], r.proof[0], *r.proof[2:]))), entry
    )
    yield add("replace the checkpoint by an older one", _receipt(lambda r: replace(r, checkpoint=older)), entry)
    yield add(
        "forge the checkpoint with another key under the log's id",
        lambda f: f.write_bytes(f.read_bytes().replace(b"\n700\n", b"\n701\n")),
        "checkpoint of size 701",
    )
    yield add(
        "forge the checkpoint's root with the log's key",
        _receipt(lambda r: replace(r, checkpoint=forge_checkpoint(SIGNER, SIZE))),
        "entry 520,",
    )
    yield add("cut the file short", lambda f: f.write_bytes(f.read_bytes()[:-2]), "checkpoint")
    yield add("cut the head off", lambda f: f.write_bytes(f.read_bytes().partition(b"\n")[2]), "not a receipt")
    yield add("empty the file", lambda f: f.write_bytes(b""), "not a receipt")


def list_mutations(sound: Sound) -> list[Mutation]:
    """Return every mutation, of all three forms."""
    return [
        *list_in_database(sound),
        *list_in_bundles(),
        *list_in_tiles(),
        *list_in_checkpoints(sound),
        *list_in_receipt(sound),
    ]
