"""PostgreSQL arrays in binary form, packed in one go: psycopg dumps a list element by element.

The statement's cast names the type of the array: `unnest(%b::uuid[])`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from uuid import UUID

from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format

_BYTEA, _BIGINT, _TEXT, _UUID = 17, 20, 25, 2950  # pg_type.oid
_HEADER = struct.Struct(">iiIii")  # dimensions, whether there may be NULLs, the elements' type, how many, first index
_LENGTH = struct.Struct(">i")
_BIGINT_ITEM = struct.Struct(">iq")
_NULL = _LENGTH.pack(-1)


class PackedArray:
    """The bytes of an array, as a parameter."""

    __slots__ = ("data",)

    def __init__(self, element: int, count: int, packed: Iterable[bytes]) -> None:
        """`packed` are the parts of each element after its length."""
        self.data = b"".join(chain((_HEADER.pack(1, 1, element, count, 1),), packed))


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> bytes:
        return obj.data


adapters.register_dumper(PackedArray, _PackedDumper)


def pack_uuids(items: Sequence[UUID]) -> PackedArray:
    """Return a uuid[]."""
    return PackedArray(_UUID, len(items), chain.from_iterable(zip(repeat(_LENGTH.pack(16)), [u.bytes for u in items])))


def pack_bigints(items: Sequence[int]) -> PackedArray:
    """Return a bigint[]."""
    return PackedArray(_BIGINT, len(items), map(_BIGINT_ITEM.pack, repeat(_BIGINT_ITEM.size - 4), items))


def pack_blobs(items: Sequence[bytes]) -> PackedArray:
    """Return a bytea[]."""
    return PackedArray(
        _BYTEA, len(items), chain.from_iterable(zip(map(_LENGTH.pack, map(len, items)), items, strict=True))
    )


def pack_texts(items: Sequence[str | None]) -> PackedArray:
    """Return a text[]; most of them are the same few."""
    packed: dict[str | None, bytes] = {None: _NULL}
    for item in set(items) - {None}:
        text = str(item).encode()
        packed[item] = _LENGTH.pack(len(text)) + text
    return PackedArray(_TEXT, len(items), [packed[item] for item in items])
