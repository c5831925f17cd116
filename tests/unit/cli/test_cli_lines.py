"""Lines of a file of records, and the keys under which each is logged once."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from app.cli.lines import LINE_LIMIT_BYTES, LineKeys, read_lines

TEXTS = st.lists(st.binary(max_size=12).filter(lambda text: b"\n" not in text), max_size=30)


@given(TEXTS, st.booleans())
def test_every_line_that_is_not_blank_is_read_with_its_number(texts: list[bytes], ends: bool) -> None:
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    found = [(line.number, line.text) for line in read_lines(io.BytesIO(data))]
    assert found == [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]


@given(TEXTS)
def test_keys_are_those_of_another_reading_and_never_the_same_twice(texts: list[bytes]) -> None:
    first, second = LineKeys(), LineKeys()
    keys = [first.key_of(text) for text in texts]
    assert keys == [second.key_of(text) for text in texts]
    assert len(set(keys)) == len(keys)


@given(TEXTS, st.randoms())
def test_keys_do_not_depend_on_the_order_of_different_lines(texts: list[bytes], dice: object) -> None:
    shuffled = list(texts)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    first, second = LineKeys(), LineKeys()
    assert {first.key_of(text) for text in texts} == {second.key_of(text) for text in shuffled}


def test_a_line_at_the_limit_is_read_and_one_over_it_is_cut_off_and_skipped() -> None:
    at, over = b"a" * LINE_LIMIT_BYTES, b"b" * (5 * LINE_LIMIT_BYTES)
    found = list(read_lines(io.BytesIO(at + b"\r\n" + over + b"\nlast")))
    assert [(line.number, line.too_long) for line in found] == [(1, False), (2, True), (3, False)]
    assert found[0].text == at
    assert len(found[1].text) <= LINE_LIMIT_BYTES + 2
    assert found[2].text == b"last"
