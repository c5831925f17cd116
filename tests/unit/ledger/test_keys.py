"""Which key may sign which size, who may be added and retired, and how trust follows a rotation."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from app.errors import Conflict
from app.ledger.keys import (
    KEY_ADDED,
    KEY_RETIRED,
    LOG_FROZEN,
    MAX_KEYS,
    KeyEntry,
    KeyHistory,
    KeyHistoryError,
    KeyNotValidError,
    check_addition,
    check_retirement,
    extend_trust,
    read_history,
)
from app.tlog.encoding import format_base64
from app.tlog.note import COSIGNATURE_V1, ED25519, VerifierKey, format_vkey, key_id

ORIGIN = "log.example/acme"


def make_key(number: int, *, name: str = ORIGIN, algorithm: int = ED25519) -> VerifierKey:
    seed = hashlib.sha256(number.to_bytes(4, "big")).digest()
    return VerifierKey(name=name, algorithm=algorithm, public_key=bytes(SigningKey(seed).verify_key))


OLD, NEW, THIRD = make_key(1), make_key(2), make_key(3)


def added(index: int, key: VerifierKey) -> KeyEntry:
    return KeyEntry(index=index, action=KEY_ADDED, vkey=format_vkey(key))


def retired(index: int, key: VerifierKey) -> KeyEntry:
    return KeyEntry(index=index, action=KEY_RETIRED, vkey=format_vkey(key))


def frozen(index: int) -> KeyEntry:
    return KeyEntry(index=index, action=LOG_FROZEN)


ROTATION = (added(0, OLD), added(10, NEW), retired(20, OLD))


def test_the_first_key_signs_every_size_but_the_empty_tree() -> None:
    history = read_history(ORIGIN, [added(0, OLD)])
    assert [history.keys_at(size) for size in (0, 1, 1000)] == [(), (OLD,), (OLD,)]


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        (1, {OLD}),
        (10, {OLD}),
        (11, {OLD, NEW}),  # the smallest tree that contains key.added
        (20, {OLD, NEW}),
        (21, {OLD, NEW}),  # the smallest tree that contains key.retired
        (22, {NEW}),
    ],
)
def test_both_keys_sign_through_the_overlap_and_none_outside_its_life(size: int, keys: set[VerifierKey]) -> None:
    history = read_history(ORIGIN, ROTATION)
    assert set(history.keys_at(size)) == keys
    for key in (OLD, NEW):
        if key in keys:
            history.verify_signed_by_valid_key(size, [key])
        else:
            with pytest.raises(KeyNotValidError):
                history.verify_signed_by_valid_key(size, [key])


def test_a_key_that_may_not_sign_neither_helps_nor_harms() -> None:
    history = read_history(ORIGIN, ROTATION)
    history.verify_signed_by_valid_key(30, [OLD, NEW])
    history.verify_signed_by_valid_key(5, [OLD, NEW])
    with pytest.raises(KeyNotValidError):
        history.verify_signed_by_valid_key(30, [OLD, THIRD])


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([added(1, OLD)], "does not begin"),
        ([retired(0, OLD)], "does not begin"),
        ([frozen(0)], "does not begin"),
        ([added(0, make_key(1, name="log.example/other"))], "of that name"),
        ([added(0, make_key(1, algorithm=COSIGNATURE_V1))], "Ed25519 key"),
        ([added(0, OLD), added(1, OLD)], "added once"),
        ([*ROTATION, added(30, OLD)], "never comes back"),
        ([added(0, OLD), added(0, NEW)], "not after"),
        ([added(0, OLD), retired(1, OLD)], "last active"),
        ([*ROTATION, retired(30, NEW)], "last active"),
        ([*ROTATION, retired(30, OLD)], "only an active"),
        ([added(0, OLD), retired(1, NEW)], "only an active"),
        ([added(0, OLD), frozen(1), added(2, NEW)], "after log.frozen"),
        ([added(0, OLD), added(1, NEW), frozen(2), retired(3, OLD)], "after log.frozen"),
        ([added(0, OLD), frozen(1), frozen(2)], "after log.frozen"),
        ([added(0, OLD), KeyEntry(index=1, action="record.logged")], "not about keys"),
        ([KeyEntry(index=0, action=KEY_ADDED, vkey="nonsense")], "not a verifier key"),
        ([KeyEntry(index=0, action=KEY_ADDED)], "not a verifier key"),
    ],
)
def test_a_key_entry_that_the_log_cannot_have_is_refused(entries: list[KeyEntry], why: str) -> None:
    with pytest.raises(KeyHistoryError, match=why):
        read_history(ORIGIN, entries)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_small_order_key_is_refused(point: bytes) -> None:
    vkey = f"{ORIGIN}+{key_id(ORIGIN, ED25519, point).hex()}+{format_base64(bytes([ED25519]) + point)}"
    with pytest.raises(KeyHistoryError, match="small order"):
        read_history(ORIGIN, [KeyEntry(index=0, action=KEY_ADDED, vkey=vkey)])


def test_a_log_has_a_bounded_number_of_keys() -> None:
    history = read_history(ORIGIN, [added(index, make_key(index)) for index in range(MAX_KEYS)])
    with pytest.raises(KeyHistoryError, match="the most"):
        history.add(added(MAX_KEYS, make_key(MAX_KEYS)))


def test_retiring_waits_until_the_successor_is_published() -> None:
    history = read_history(ORIGIN, [added(0, OLD), added(10, NEW)])
    with pytest.raises(Conflict, match="not published yet"):
        check_retirement(history, format_vkey(OLD), published_size=10)
    check_retirement(history, format_vkey(OLD), published_size=11)
    check_retirement(history, format_vkey(NEW), published_size=11)


def test_the_last_active_key_cannot_be_retired() -> None:
    with pytest.raises(KeyHistoryError, match="last active"):
        check_retirement(read_history(ORIGIN, ROTATION), format_vkey(NEW), published_size=30)


def test_an_addition_is_checked_before_it_is_appended() -> None:
    history = read_history(ORIGIN, ROTATION)
    check_addition(history, format_vkey(THIRD), next_index=21)
    with pytest.raises(KeyHistoryError):
        check_addition(history, format_vkey(OLD), next_index=21)


def test_an_auditor_with_the_old_key_follows_a_rotation() -> None:
    history = read_history(ORIGIN, ROTATION)
    assert extend_trust([OLD], history, [(11, [OLD, NEW]), (40, [NEW])]) == {OLD, NEW}


def test_trust_follows_a_chain_of_rotations_in_any_order() -> None:
    history = read_history(ORIGIN, [*ROTATION, added(30, THIRD), retired(40, NEW)])
    checkpoints = [(50, [THIRD]), (35, [NEW, THIRD]), (15, [OLD, NEW])]
    assert extend_trust([OLD], history, checkpoints) == {OLD, NEW, THIRD}


@pytest.mark.parametrize(
    "checkpoints",
    [
        [],
        [(40, [NEW])],  # the new key vouches for itself
        [(10, [OLD])],  # signed by the old key, and before key.added
        [(22, [OLD, NEW])],  # the old key is retired and vouches for nobody
    ],
)
def test_a_new_key_is_not_trusted_unless_a_key_in_its_life_vouches(
    checkpoints: list[tuple[int, list[VerifierKey]]],
) -> None:
    assert extend_trust([OLD], read_history(ORIGIN, ROTATION), checkpoints) == {OLD}


def test_a_known_key_of_another_log_is_trusted_for_nothing() -> None:
    other = make_key(1, name="log.example/other")
    assert extend_trust([other], read_history(ORIGIN, ROTATION), [(11, [other, OLD, NEW])]) == set()


@st.composite
def histories(draw: st.DrawFn) -> KeyHistory:
    """Return a history of rotations as `check_addition` and `check_retirement` allow them."""
    history = read_history(ORIGIN, [added(0, make_key(0))])
    for number in range(1, draw(st.integers(1, 6))):
        index = history.last_index + draw(st.integers(1, 20))
        history = history.add(added(index, make_key(number)))
        index += draw(st.integers(1, 20))
        old = draw(st.sampled_from(history.active()))
        check_retirement(history, old, published_size=index)
        history = history.add(KeyEntry(index=index, action=KEY_RETIRED, vkey=old))
    return history


@given(histories(), st.integers(1, 300))
def test_every_size_of_every_log_has_a_key_that_may_sign_it(history: KeyHistory, size: int) -> None:
    assert history.keys_at(size)


@given(histories())
def test_the_checkpoints_before_each_retirement_are_enough_to_follow_every_rotation(history: KeyHistory) -> None:
    sizes = [life.retired_at_index for life in history.lives if life.retired_at_index is not None]
    checkpoints = [(size, history.keys_at(size)) for size in sizes]
    assert extend_trust([make_key(0)], history, checkpoints) == {life.key for life in history.lives}
