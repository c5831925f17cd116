"""Publishing, step by step: what is signed, what is refused, what a crash leaves behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import AssayError, Broken, Unavailable
from app.ledger.anchored import AnchorMismatchError
from app.ledger.ports import LostSwapError, NotLeaderError
from app.tlog.checkpoint import open_checkpoint
from app.tlog.note import parse_vkey
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import OTHER, STEPS, TENANT, Keys, MemoryAnchor, World, append_rows, make_row


def published_size(world: World) -> int:
    note = world.store.find_checkpoint(TENANT.id)
    if note is None:
        return 0
    return open_checkpoint(note, [parse_vkey(text) for text in Keys().known(TENANT)]).checkpoint.size


def test_entries_get_their_indexes_in_the_order_of_their_appends() -> None:
    world = World()
    first = world.append(3, 1, 2)
    second = world.append(5, 4)
    assert world.publish() == 5
    seqs = [result.seq for result in first + second]
    assert world.store.list_positions(TENANT.id, seqs) == {seq: index for index, seq in enumerate(seqs)}
    bodies = [make_row(number).body for number in (3, 1, 2, 5, 4)]
    assert world.store.list_bodies(TENANT.id, 0, 9) == bodies
    assert world.store.read_head(TENANT.id).root == root_of([leaf_hash(body) for body in bodies])


def test_one_batch_is_one_signature_and_a_quiet_log_is_not_signed_again() -> None:
    world = World()
    world.append(*range(300))
    with world.sequencer() as sequencer:
        assert sequencer.step() == 300
        assert sequencer.step() == 0
        assert sequencer.head.size == 300
    world.publish()
    assert len(world.signatures.signed) == 1


def test_a_log_without_entries_is_not_signed() -> None:
    world = World()
    assert world.publish() == 0
    assert world.signatures.signed == []
    assert world.anchor.find(TENANT.origin) is None


def test_the_anchor_holds_a_checkpoint_before_anybody_sees_it() -> None:
    world = World()
    world.append(1)
    world.faults.plan["anchor.before"] = 0
    with pytest.raises(Unavailable):
        world.publish()
    assert published_size(world) == 0
    world.faults.plan["expose.before"] = 0
    with pytest.raises(Unavailable):
        world.publish()
    assert published_size(world) == 0
    assert b"\n1\n" in world.anchor.stored[TENANT.origin]
    world.publish()
    assert published_size(world) == 1


@pytest.mark.parametrize("point", STEPS)
@pytest.mark.parametrize("earlier", [0, 3])
def test_after_a_crash_at_any_step_the_next_sequencer_finishes(point, earlier) -> None:
    world = World()
    if earlier:
        world.append(*range(earlier))
        world.publish()
    world.append(100, 101)
    world.faults.plan[point] = 0
    with pytest.raises(Unavailable):
        world.publish()
    assert world.publish() == earlier + 2
    assert published_size(world) == earlier + 2
    assert world.signatures.find_fork() is None
    assert world.faults.raised == [point]


def test_a_second_sequencer_is_not_the_leader_wherever_it_runs() -> None:
    world = World()
    with world.sequencer():
        with pytest.raises(NotLeaderError), world.sequencer():
            pass
        with pytest.raises(NotLeaderError), world.sequencer(anchor=MemoryAnchor()):
            pass
        twin = World()
        with pytest.raises(NotLeaderError), world.sequencer(store=twin.store):
            pass
    with world.sequencer():
        pass


def test_a_head_that_moved_under_the_sequencer_stops_it_unsigned() -> None:
    world = World()
    with world.sequencer() as sequencer:
        world.append(1)
        log = world.store.logs[TENANT.id]
        log.head = replace(log.head, size=1, root=bytes(32))
        with pytest.raises(LostSwapError):
            sequencer.step()
    assert world.signatures.signed == []


def test_an_anchor_that_changed_under_the_sequencer_stops_it_unsigned() -> None:
    world, twin = World(), World()
    twin.append(7, 8)
    twin.publish()
    world.append(1)
    with world.sequencer() as sequencer:
        sequencer.step()
        world.append(2)
        world.anchor.stored = dict(twin.anchor.stored)
        with pytest.raises(AnchorMismatchError):
            sequencer.step()
        del world.anchor.stored[TENANT.origin]
        with pytest.raises(AnchorMismatchError):
            sequencer.step()
    assert len(world.signatures.signed) == 1


def test_tiles_that_do_not_give_the_root_of_the_head_are_refused() -> None:
    world = World()
    world.append(1, 2, 3)
    world.publish()
    world.store.logs[TENANT.id].leaves[1] = bytes(32)
    with pytest.raises(Broken) as caught, world.sequencer():
        pass
    assert caught.value.code == "tiles_damaged"


@pytest.mark.parametrize("damage", ["shrunk", "forged", "other"])
def test_an_exposed_checkpoint_that_is_not_of_this_tree_is_refused(damage) -> None:
    world, twin = World(), World()
    world.append(1, 2, 3)
    world.publish()
    twin.append(7, 8) if damage == "other" else twin.append(1, 2, 3, 4)
    twin.publish()
    size, note = twin.store.logs[TENANT.id].checkpoints[-1]
    if damage == "forged":
        note = note.replace(b"\n4\n", b"\n3\n")
    world.store.logs[TENANT.id].checkpoints[:] = [(size, note)]
    with pytest.raises(AssayError), world.sequencer():
        pass
    assert len(world.signatures.signed) == 1


def test_a_signer_that_signs_something_else_is_caught_before_the_anchor(monkeypatch) -> None:
    world = World()
    world.append(1)
    monkeypatch.setattr("tests.fakes.ledger.RecordingSigner.sign", lambda *_: bytes(64))
    with pytest.raises(AssayError):
        world.publish()
    assert world.anchor.find(TENANT.origin) is None
    assert published_size(world) == 0


def test_nothing_is_integrated_or_signed_after_log_frozen() -> None:
    world = World()
    world.append(1)
    frozen = make_row(2, action="log.frozen", data={"reason": "ended"})
    append_rows(world.store, [frozen, make_row(3)])
    world.append(4)
    assert world.publish() == 2
    assert world.publish() == 2
    assert world.store.list_bodies(TENANT.id, 0, 9)[-1] == frozen.body
    assert [checkpoint.size for checkpoint, _ in world.signatures.signed] == [2]


def test_a_frozen_head_that_was_not_signed_before_a_crash_is_signed_once() -> None:
    world = World()
    append_rows(world.store, [make_row(2, action="log.frozen", data={"reason": "ended"})])
    world.faults.plan["integrate.after"] = 0
    with pytest.raises(Unavailable):
        world.publish()
    assert world.publish() == 1
    assert world.publish() == 1
    assert len(world.signatures.signed) == 1


def test_a_batch_is_bounded_and_the_rest_is_next(monkeypatch) -> None:
    monkeypatch.setattr("app.ledger.publish.BATCH_LIMIT", 256)
    world = World()
    world.append(*range(600))
    with world.sequencer() as sequencer:
        assert [sequencer.step() for _ in range(4)] == [256, 256, 88, 0]
    with world.sequencer() as sequencer:
        assert sequencer.head.size == 600
    assert [checkpoint.size for checkpoint, _ in world.signatures.signed] == [256, 512, 600]
    assert world.signatures.find_fork() is None


def test_two_tenants_have_two_logs() -> None:
    world = World()
    world.store.add_tenant(OTHER)
    world.append(1)
    append_rows(world.store, [make_row(1, OTHER.id)])
    assert world.publish() == 1
    assert world.store.find_checkpoint(OTHER.id) is None
