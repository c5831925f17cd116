"""What a NOTIFY says of a publication: read back as it was said, and never more than it can say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.sql.heard import (
    LEAVES_TOLD_LIMIT,
    WORDS_LIMIT_BYTES,
    find_runs,
    format_exposed,
    format_placed,
    parse_heard,
)
from app.ledger.ports import Exposed, Head, Integration, Placed

NOTE = "log.example/acme\n3\nAAAA\n\n\u2014 log.example/acme c2ln\n".encode()


def integration(seqs: list[int], size: int = 0) -> Integration:
    old, new = (Head(size=at, root=bytes(32), settled_seq=0, frozen=False) for at in (size, size + len(seqs)))
    leaves = [number.to_bytes(32, "big") for number in range(len(seqs))]
    return Integration(tenant="acme", old=old, new=new, seqs=seqs, leaf_hashes=leaves, tiles=[])


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(0, 2**40))
def test_every_entry_is_found_where_it_was_placed_and_no_other(seqs: set[int], size: int) -> None:
    batch = integration(sorted(seqs), size)
    heard = parse_heard(format_placed(batch))
    assert isinstance(heard, Placed)
    assert (heard.tenant, heard.size, heard.last_seq) == ("acme", size + len(seqs), max(seqs))
    where = {seq: size + place for place, seq in enumerate(batch.seqs)}
    assert {seq: heard.find(seq) for seq in range(62)} == {seq: where.get(seq) for seq in range(62)}
    assert heard.leaves == b"".join(batch.leaf_hashes)
    assert len(find_runs(batch.seqs, size)) == sum(seq - 1 not in seqs for seq in seqs)


@pytest.mark.parametrize("seqs", [[1, 3, 2, 4], [2, 1], list(range(1, 3000, 2))], ids=["swapped", "falling", "gaps"])
def test_what_cannot_be_said_in_runs_has_everybody_look(seqs: list[int]) -> None:
    assert format_placed(integration(seqs)) == ""
    assert parse_heard("") is None


def test_the_largest_batch_without_gaps_is_one_run() -> None:
    assert len(format_placed(integration(list(range(10**15, 10**15 + 4096)), 10**15))) < 120


@pytest.mark.parametrize(
    ("seqs", "told"),
    [
        (list(range(1, LEAVES_TOLD_LIMIT + 1)), True),
        (list(range(1, LEAVES_TOLD_LIMIT + 2)), False),
        ([10**15 + 2 * number for number in range(LEAVES_TOLD_LIMIT)], False),
    ],
    ids=["most", "too-many", "too-many-runs"],
)
def test_leaves_are_told_if_they_fit_beside_the_rest(seqs: list[int], told: bool) -> None:
    words = format_placed(integration(seqs, 10**15))
    assert len(words) <= WORDS_LIMIT_BYTES
    heard = parse_heard(words)
    assert heard.leaves == (b"".join(integration(seqs).leaf_hashes) if told else b"")
    assert heard.find(seqs[-1]) == 10**15 + len(seqs) - 1


def test_an_earlier_version_tells_of_no_leaves() -> None:
    assert parse_heard('{"tenant":"acme","size":3,"runs":[[1,2,1]]}') == Placed("acme", 3, ((1, 2, 1),))


def test_a_checkpoint_is_heard_with_its_note() -> None:
    assert parse_heard(format_exposed("acme", NOTE)) == Exposed("acme", NOTE)


def test_a_note_with_more_cosignatures_than_can_be_said_is_left_out() -> None:
    long = NOTE + "\u2014 witness.example/w c2ln\n".encode() * 400
    words = format_exposed("acme", long)
    assert len(words) <= WORDS_LIMIT_BYTES
    assert parse_heard(words) == Exposed("acme")


@pytest.mark.parametrize(
    "words",
    [
        *("acme", "7", "null", "[]", "{}", '{"tenant":"acme"}', '{"tenant":"acme","note":3}', "{" * 4000),
        *(f'{{"tenant":"acme","size":3,"runs":[[1,2,1]],"leaves":{leaves}}}' for leaves in ("3", '"AAA"', '"é"')),
        *(f'{{"tenant":"acme","size":3,"runs":{runs}}}' for runs in ("3", "[]", "[3]", "[[1,2]]", '[["a",1,2]]')),
    ],
)
def test_words_that_mean_nothing_have_everybody_look(words: str) -> None:
    assert parse_heard(words) is None
