"""A database that is older than what was signed, or a copy that went its own way: it is refused before it signs."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url

from app.adapters.anchor_file import AnchorUnavailableError, FileAnchor
from app.errors import Broken
from app.ledger.anchored import AnchorMismatchError
from app.ledger.cosign import Cosigners, Mode
from app.ledger.ports import LostSwapError, NotLeaderError
from app.ledger.publish import Sequencer
from app.ledger.witness import format_request
from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.policy import Log, Policy
from app.tlog.policy import Witness as Trusted
from app.tlog.proof import ProofError
from app.tlog.tree import HASH_SIZE
from tests.fakes.ledger import TENANT, Keys, Signatures, append_rows, make_row
from tests.fakes.ledger_stores import DURABLE, database, opened
from tests.fakes.witnesses import WITNESS, MemoryState, make_witness

ORIGIN = TENANT.origin


@pytest.fixture(params=DURABLE)
def kind(request):
    return request.param


@pytest.fixture
def url(kind, request):
    with database(kind, request) as url:
        with opened(url) as store:
            store.add_tenant(TENANT)
        yield url


@pytest.fixture
def copy(kind, url, request, tmp_path):
    """Return what copies the database: the files of SQLite, a template on PostgreSQL; nobody may be connected."""

    def copy_database(name: str) -> str:
        if kind == "sqlite":
            place = tmp_path / name
            place.mkdir()
            for path in tmp_path.glob("ledger.db*"):
                shutil.copy(path, place / path.name)
            return f"sqlite:///{place}/ledger.db"
        server = request.getfixturevalue("postgres_server")
        new = f"{make_url(url).database}_{name}"
        server._execute("CREATE DATABASE {} TEMPLATE {}", new, make_url(url).database)
        copies.append(server.url(new))
        return copies[-1]

    copies: list[str] = []
    yield copy_database
    for made in copies:
        request.getfixturevalue("postgres_server").drop_database(made)


@pytest.fixture
def anchors(tmp_path):
    return FileAnchor.create(tmp_path / "anchors")


@contextmanager
def sequencing(url: str, anchor, signatures: Signatures | None = None, cosigner=None):
    with opened(url) as store:

        def record(checkpoint) -> None:
            if signatures is not None:
                tile = store.read_tile(TENANT.id, 0, 0, checkpoint.size)
                leaves = tuple(tile[at : at + HASH_SIZE] for at in range(0, len(tile), HASH_SIZE))
                signatures.signed.append((checkpoint, leaves))

        with Sequencer(store=store, tenant=TENANT, anchor=anchor, keyring=Keys(record), cosigner=cosigner) as sequencer:
            yield store, sequencer


def append_and_publish(url, anchor, *numbers, **options) -> int:
    with sequencing(url, anchor, **options) as (store, sequencer):
        append_rows(store, [make_row(number) for number in numbers])
        sequencer.step()
        return sequencer.head.size


def test_an_older_backup_is_refused_and_the_lost_range_named(url, copy, anchors) -> None:
    append_and_publish(url, anchors, 1, 2, 3)
    backup = copy("backup")
    append_and_publish(url, anchors, 4, 5)
    with pytest.raises(AnchorMismatchError, match="entries 3 to 4 were signed") as caught, sequencing(backup, anchors):
        pass
    assert (caught.value.lost_from, caught.value.lost_to) == (3, 5)
    assert append_and_publish(url, anchors, 6) == 6, "the right database goes on"


@pytest.mark.parametrize("others", [1, 2, 5])
def test_an_older_backup_that_took_other_entries_is_refused_whatever_its_size(
    url, copy, anchors, others, tmp_path
) -> None:
    append_and_publish(url, anchors, 1, 2, 3)
    backup = copy("backup")
    of_backup = FileAnchor(shutil.copytree(anchors._folder, tmp_path / "old anchors"))
    append_and_publish(url, anchors, 4, 5)
    with sequencing(backup, of_backup) as (store, sequencer):  # a second installation, with the old anchor
        append_rows(store, [make_row(10 + number) for number in range(others)])
        sequencer._integrate()
    signatures = Signatures()
    with pytest.raises(AnchorMismatchError), sequencing(backup, anchors, signatures):
        pass
    assert signatures.signed == []


def test_a_backup_as_old_as_the_last_signature_goes_on(url, copy, anchors) -> None:
    append_and_publish(url, anchors, 1, 2, 3)
    backup = copy("backup")
    signatures = Signatures()
    assert append_and_publish(backup, anchors, 4, signatures=signatures) == 4
    with pytest.raises(AnchorMismatchError), sequencing(url, anchors):
        pass


def test_a_restored_database_and_a_lost_anchor_are_refused(url, anchors) -> None:
    append_and_publish(url, anchors, 1)
    shutil.rmtree(anchors._folder)
    with pytest.raises(AnchorUnavailableError), sequencing(url, anchors):
        pass
    empty = FileAnchor.create(anchors._folder)
    with pytest.raises(AnchorMismatchError, match="anchor is missing"), sequencing(url, empty):
        pass


def test_a_clone_cannot_be_sequenced_beside_the_original_with_one_anchor(url, copy, anchors) -> None:
    append_and_publish(url, anchors, 1)
    clone = copy("clone")
    with sequencing(url, anchors), pytest.raises(NotLeaderError), sequencing(clone, anchors):
        pass


def test_two_sequencers_of_one_database_never_both_move_its_head(url, anchors, tmp_path) -> None:
    """With separate anchors, and locks that both believe to hold, the swap still decides."""
    elsewhere = FileAnchor.create(tmp_path / "elsewhere")
    with opened(url) as one, opened(url) as two:
        append_rows(one, [make_row(1)])
        with Sequencer(store=one, tenant=TENANT, anchor=anchors, keyring=Keys()) as leader:
            with pytest.raises(NotLeaderError), Sequencer(store=two, tenant=TENANT, anchor=elsewhere, keyring=Keys()):
                pass
            usurper = Sequencer(store=two, tenant=TENANT, anchor=elsewhere, keyring=Keys())
            usurper._load()
            assert leader.step() == 1
            append_rows(one, [make_row(2)])
            with pytest.raises(LostSwapError):
                usurper.step()
        assert elsewhere.find(ORIGIN) is None, "the usurper signed nothing"


class LocalWitness:
    """A real witness, called without a socket (ports.WitnessClient)."""

    def __init__(self) -> None:
        key = Keys().active(TENANT)[0].key
        self.name = WITNESS.name
        self.witness = make_witness(MemoryState(), None, key)
        self.policy = Policy(logs=(Log(key=key),), witnesses=(Trusted(name=self.name, key=WITNESS),), quorum=self.name)

    def add_checkpoint(self, old_size, proof, checkpoint):
        try:
            return self.witness.add_checkpoint(format_request(old_size, proof, checkpoint)).decode().splitlines()
        except ProofError as error:
            raise Broken(str(error)) from error  # as the HTTP client does

    def cosigners(self) -> Cosigners:
        return Cosigners(
            self.policy, [self], mode=Mode.REQUIRE, timeout_s=20.0, clock_s=time.monotonic, report=lambda _: None
        )


def test_a_clone_with_an_anchor_of_its_own_is_caught_by_the_witness(url, copy, anchors, tmp_path) -> None:
    """Database, anchor and key cloned together: nothing local can tell, so this is what witnesses are for."""
    witness = LocalWitness()
    append_and_publish(url, anchors, 1, 2, cosigner=witness.cosigners())
    clone = copy("clone")
    cloned_anchors = FileAnchor(shutil.copytree(anchors._folder, tmp_path / "cloned"))
    assert append_and_publish(url, anchors, 3, 4, cosigner=witness.cosigners()) == 4
    for numbers in ([13], [14], [15, 16]):  # smaller, equal and larger than what was witnessed
        with pytest.raises(Broken, match="witness"):
            append_and_publish(clone, cloned_anchors, *numbers, cosigner=witness.cosigners())
        with opened(clone) as store:
            assert parse_checkpoint(parse_note(store.find_checkpoint(TENANT.id)).text).size == 2, "nothing exposed"
    assert append_and_publish(url, anchors, 5, cosigner=witness.cosigners()) == 5
