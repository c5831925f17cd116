"""Records from a file, line by line: what each becomes, and the key under which it is logged once.

The key is the digest of the line and of how many equal lines came before it in the file. So a file that is imported
again, after any interruption, adds nothing, and two equal lines of one file are both kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, Final

LINE_LIMIT_BYTES: Final = 64 * 1024
_DOMAIN: Final = b"assay import\x00"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank: its number from 1, its bytes without the newline, cut off if `too_long`."""

    number: int
    text: bytes
    too_long: bool


def read_lines(opened: BinaryIO) -> Iterator[Line]:
    """Yield the lines that are not blank; of one over `LINE_LIMIT_BYTES` only the beginning is kept."""
    number = 0
    while text := opened.readline(LINE_LIMIT_BYTES + 2):
        number += 1
        too_long = len(text.rstrip(b"\r\n")) > LINE_LIMIT_BYTES
        rest = text
        while not rest.endswith(b"\n") and (rest := opened.readline(LINE_LIMIT_BYTES)):
            too_long = True
        if text.strip():
            yield Line(number, text.strip(), too_long)


class LineKeys:
    """Idempotency keys for the lines of one file, asked for in order.

    Remembers 8 bytes of each line's digest: about 100 MB for a million different lines.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self._once: set[int] = set()
        self._more: Counter[int] = Counter()

    def key_of(self, text: bytes) -> bytes:
        """Return the 32-byte key of the next line with this text."""
        digest = sha256(text).digest()
        short = int.from_bytes(digest[:8], "big")
        if short not in self._once:
            self._once.add(short)
            occurrence = 1
        else:
            self._more[short] += 1
            occurrence = 1 + self._more[short]
        return sha256(_DOMAIN + digest + occurrence.to_bytes(8, "big")).digest()
