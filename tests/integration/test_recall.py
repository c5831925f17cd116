"""Reading past decisions back: everything about one holds, or it is refused by name."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.ledger.canonical import canonical
from app.ledger.entry import parse_entry
from app.ledger.ports import StoredEntry
from app.ledger.prove import NotPublishedError
from app.policy.decision import Allow, Mode
from app.policy.query import name_tokens
from app.policy.replay import Past, Unusable, rerun
from app.subjects.recall import open_tree
from app.tlog.note import SignatureError
from tests.parts.built_logs import SIGNER, TENANT, SeedSigner
from tests.parts.decided import PLAIN, open_decided


@pytest.fixture
def log(tmp_path):
    with open_decided(tmp_path) as decided:
        yield decided


def codes(found):
    return [each.code if isinstance(each, Unusable) else "usable" for each in found]


def test_a_decision_comes_back_with_the_input_that_the_policy_read(log):
    decision_id = log.decide()
    [past] = log.recall()
    assert isinstance(past, Past)
    assert past.record.decision_id == decision_id
    assert isinstance(past.record.outcome, Allow)
    assert past.document["payer"]["name_tokens"] == name_tokens(PLAIN["payer_name"])
    assert past.document["now_ms"] == 1795435200000
    assert "lovelace" not in repr(past)


def test_its_own_bundle_gives_the_same_bytes_again(log):
    log.decide()
    log.decide(payer_country="KP")
    log.decide(payer_name="Zoltán Mirkováre", payer_country="ZZ")
    for past in log.recall():
        answer = rerun(log.engine, past)
        assert answer.digest == past.record.result_digest
        assert canonical(answer.result) == canonical(past.record.result)


def test_a_shadow_decision_says_which_mode_it_was(log):
    log.decide(mode=Mode.SHADOW)
    [past] = log.recall()
    assert past.record.mode is Mode.SHADOW


def test_an_erased_input_is_named_so_and_the_others_stay(log):
    log.decide(subject="sub_ada")
    log.decide(subject="sub_bob")
    log.erase("sub_ada")
    assert codes(log.recall()) == ["erased", "usable"]


def test_an_entry_that_is_not_the_signed_one_is_refused(log):
    log.decide()
    log.decide()
    log.log.publish()
    first, second = log.list_decisions()
    forged = StoredEntry(first.seq, first.index, first.body.replace(b'"allow"', b'"allow" '))
    moved = StoredEntry(second.seq, first.index, second.body)
    assert codes(log.open_recall().recall([forged, moved, second])) == ["entry_not_proven"] * 2 + ["usable"]


def test_an_entry_that_is_not_under_a_checkpoint_waits(log):
    log.decide()
    log.log.publish()
    recall = log.open_recall()
    log.decide()
    log.log.publish()
    assert codes(recall.recall(log.list_decisions())) == ["usable", "not_in_the_log_yet"]


def test_a_sealed_input_that_was_altered_is_refused(log, tmp_path):
    log.decide(subject="sub_ada")
    log.decide(subject="sub_bob")
    log.log.publish()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        drop_triggers(database)
        database.execute("UPDATE sealed_field SET box = zeroblob(length(box)) WHERE subject = 'sub_ada'")
        database.execute("DELETE FROM sealed_field WHERE subject = 'sub_bob'")
    database.close()
    assert codes(log.open_recall().recall(log.list_decisions())) == ["seal_broken", "seal_broken"]


def test_an_input_other_than_the_decision_names_is_refused(log):
    log.decide(tamper=lambda data, document: document.update(now_ms=1))
    log.decide(tamper=lambda data, document: data.update(input_digest="0" * 64))
    assert codes(log.recall()) == ["input_mismatch"] * 2


def test_a_result_other_than_its_digest_is_refused(log):
    log.decide(tamper=lambda data, document: data.update(result_digest="0" * 64))
    assert codes(log.recall()) == ["result_mismatch"]


def test_a_decision_of_no_engine_is_refused_as_its_record_says(log):
    class Stopped:
        ref = log.engine.ref

        def evaluate(self, *_args, **_kwargs):
            raise RuntimeError

    log.engine = Stopped()
    log.decide()
    assert codes(log.recall()) == ["engine_failed"]


def test_a_record_of_before_this_version_is_read_alike(log):
    def age(data, _document):
        data["bundle"].pop("revision")
        data.pop("replayable")

    log.decide(tamper=age)
    [past] = log.recall()
    assert isinstance(past, Past)
    assert past.record.not_replayable is None


def test_an_entry_that_is_no_decision_is_refused(log):
    log.log.grow(5)
    page = [StoredEntry(0, index, body) for index, body in enumerate(log.store.list_bodies(TENANT.id, 0, 2))]
    assert codes(log.open_recall().recall(page)) == ["decision_malformed"] * 2


def test_a_checkpoint_of_another_key_opens_no_tree(log):
    with pytest.raises(SignatureError):
        open_tree(log.store, TENANT, [SeedSigner(TENANT.origin, 2).vkey])
    with pytest.raises(NotPublishedError):
        open_tree(log.store, TENANT, [SIGNER.vkey], size=99)
    log.log.grow(3)
    assert open_tree(log.store, TENANT, [SIGNER.vkey], size=1).size == 1


def test_a_root_that_was_not_signed_proves_nothing(log):
    log.decide()
    [past] = log.recall()
    recall = log.open_recall()
    recall.tree = replace(recall.tree, root=bytes(32))
    assert codes(recall.recall(log.list_decisions())) == ["entry_not_proven"]
    assert parse_entry(log.list_decisions()[0].body).id == past.record.entry_id


def drop_triggers(database):
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")


def test_decisions_in_several_tiles_are_proven_and_one_forged_hash_disproves_its_whole_tile(log, tmp_path):
    log.decide()
    log.log.grow(300)
    log.decide()
    log.decide()
    assert codes(log.recall()) == ["usable"] * 3
    assert [stored.index // 256 for stored in log.list_decisions()] == [0, 1, 1]
    recall = log.open_recall()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        drop_triggers(database)
        database.execute("UPDATE tile SET data = zeroblob(8192) WHERE level = 0")
    database.close()
    assert codes(recall.recall(log.list_decisions())) == ["entry_not_proven", "usable", "usable"]


def test_a_page_costs_two_reads_of_subjects_however_many_decisions_it_has(log):
    for number in range(20):
        log.decide(subject=f"sub_{number}")
    log.log.publish()
    recall, stored, asked = log.open_recall(), log.list_decisions(), []
    sa.event.listen(log.subjects._engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    recall.recall(stored)
    assert sum("sealed_field" in statement or "subject_key" in statement for statement in asked) == 2
