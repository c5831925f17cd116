"""Key files: made safely, refused when unfit, seen at once when they change, and silent about their seeds."""

from __future__ import annotations

import copy
import pickle
import stat
import threading
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from app.adapters.keyfile import (
    MAX_KEYS_PER_ORIGIN,
    FileKeyRing,
    KeyFileError,
    create_key_file,
    load_key_file,
    origin_folder,
    read_signer,
    retire_key_file,
)
from app.errors import AssayError, NotFound, Rejected, Unavailable
from app.ledger.ports import Tenant
from app.tlog.encoding import format_base64, parse_base64
from app.tlog.note import COSIGNATURE_V1, parse_vkey

TENANT = Tenant(id="acme", origin="log.example/acme")
OTHER = Tenant(id="other", origin="log.example/other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def path_of(folder: Path, vkey: str, suffix: str = ".key") -> Path:
    key = parse_vkey(vkey)
    return origin_folder(folder, key.name) / (key.key_id.hex() + suffix)


def read_seed(path: Path) -> str:
    return path.read_text().split("seed ")[1].strip()


def active(ring: FileKeyRing, tenant: Tenant = TENANT) -> set[str]:
    return {signer.vkey for signer in ring.active(tenant)}


def test_a_new_key_signs_and_its_verifier_key_verifies(folder: Path) -> None:
    vkey = create_key_file(folder, TENANT.origin)
    (signer,) = FileKeyRing(folder).active(TENANT)
    assert signer.vkey == vkey
    parse_vkey(vkey).verify(b"text\n", signer.sign(b"text\n"))
    assert parse_vkey(vkey).name == TENANT.origin


def test_a_key_file_is_its_owners_alone_and_says_loudly_what_it_is(folder: Path) -> None:
    path = path_of(folder, create_key_file(folder, TENANT.origin))
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, folder)]
    assert modes == [0o600, 0o700, 0o700]
    assert path.read_text().startswith("# DEVELOPMENT KEY")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_two_keys_are_never_alike(folder: Path) -> None:
    assert len({create_key_file(folder, TENANT.origin) for _ in range(8)}) == 8


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_file_open_to_others_is_refused(folder: Path, mode: int) -> None:
    path = path_of(folder, create_key_file(folder, TENANT.origin))
    ring = FileKeyRing(folder)
    assert active(ring)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        ring.active(TENANT)


def test_a_verifier_key_that_does_not_belong_to_the_seed_is_refused(folder: Path) -> None:
    first, second = (path_of(folder, create_key_file(folder, TENANT.origin)) for _ in range(2))
    seed = read_seed(first)
    first.write_text(first.read_text().replace(seed, read_seed(second)))
    with pytest.raises(KeyFileError, match="not that of its verifier key"):
        load_key_file(first)
    with pytest.raises(KeyFileError):
        FileKeyRing(folder).active(TENANT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-5],
        lambda text: text + "seed AAAA\n",
        lambda text: text.replace("vkey ", "key "),
        lambda text: text.replace("vkey log.example/acme", "vkey log.example/other"),
        lambda text: text.replace("seed ", "seed AA"),
        lambda text: text + "# " + "x" * 5000 + "\n",
        lambda text: "\N{REPLACEMENT CHARACTER}" + text,
    ],
)
def test_a_damaged_key_file_is_refused_without_showing_its_seed(folder: Path, damage) -> None:
    path = path_of(folder, create_key_file(folder, TENANT.origin))
    seed = read_seed(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(KeyFileError) as refused:
        FileKeyRing(folder).active(TENANT)
    assert seed not in str(refused.value)
    assert seed not in repr(refused.value.__cause__)


def test_a_key_of_another_log_or_kind_in_the_wrong_place_is_refused(folder: Path) -> None:
    mine = path_of(folder, create_key_file(folder, TENANT.origin))
    theirs = path_of(folder, create_key_file(folder, OTHER.origin))
    theirs.rename(mine.parent / theirs.name)
    with pytest.raises(KeyFileError, match="not the key that its place says"):
        FileKeyRing(folder).active(TENANT)


def test_a_witness_key_never_signs_for_a_log(folder: Path) -> None:
    vkey = create_key_file(folder, TENANT.origin, algorithm=COSIGNATURE_V1)
    assert read_signer(folder, TENANT.origin, algorithm=COSIGNATURE_V1).vkey == vkey
    with pytest.raises(KeyFileError):
        FileKeyRing(folder).active(TENANT)


def test_one_tenants_broken_key_stops_nobody_else(folder: Path) -> None:
    path_of(folder, create_key_file(folder, TENANT.origin)).write_text("garbage")
    vkey = create_key_file(folder, OTHER.origin)
    assert active(FileKeyRing(folder), OTHER) == {vkey}


def test_without_a_key_the_answer_is_unavailable_and_nothing_is_made(folder: Path) -> None:
    ring = FileKeyRing(folder)
    with pytest.raises(Unavailable):
        ring.active(TENANT)
    assert ring.known(TENANT) == ()
    assert not folder.exists()


def test_a_running_sequencer_sees_each_step_of_a_rotation(folder: Path) -> None:
    ring = FileKeyRing(folder)
    old = create_key_file(folder, TENANT.origin)
    assert active(ring) == {old}
    new = create_key_file(folder, TENANT.origin)
    assert active(ring) == {old, new}
    retire_key_file(folder, old)
    assert active(ring) == {new}
    assert set(ring.known(TENANT)) == {old, new}


def test_a_ring_that_sees_no_change_reads_no_seed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = FileKeyRing(folder)
    create_key_file(folder, TENANT.origin)
    before = ring.active(TENANT)
    monkeypatch.setattr("app.adapters.keyfile.load_key_file", lambda path: pytest.fail("read again"))
    assert ring.active(TENANT) is before


def test_a_retired_key_keeps_its_verifier_key_and_its_seed_is_nowhere(folder: Path) -> None:
    old = create_key_file(folder, TENANT.origin)
    create_key_file(folder, TENANT.origin)
    seed = read_seed(path_of(folder, old))
    retire_key_file(folder, old)
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in texts if seed in text]
    assert sum(old in text for text in texts) == 1
    retire_key_file(folder, old)


def test_the_seed_is_overwritten_before_its_file_is_unlinked(folder: Path, tmp_path: Path) -> None:
    old = create_key_file(folder, TENANT.origin)
    path = path_of(folder, old)
    seed = read_seed(path)
    (tmp_path / "second name").hardlink_to(path)
    retire_key_file(folder, old)
    assert seed not in (tmp_path / "second name").read_text()


def test_a_crash_between_the_two_steps_of_retiring_leaves_the_key_retired(folder: Path) -> None:
    old, new = (create_key_file(folder, TENANT.origin) for _ in range(2))
    active_file = path_of(folder, old)
    text = active_file.read_text()
    retire_key_file(folder, old)
    active_file.write_text(text)
    active_file.chmod(0o600)
    assert active(FileKeyRing(folder)) == {new}
    retire_key_file(folder, old)
    assert not active_file.exists()


def test_retiring_a_key_that_is_not_there_is_refused(folder: Path) -> None:
    vkey = create_key_file(folder, TENANT.origin)
    path_of(folder, vkey).unlink()
    with pytest.raises(NotFound):
        retire_key_file(folder, vkey)


def test_a_ring_read_while_keys_come_and_go_never_fails(folder: Path) -> None:
    ring = FileKeyRing(folder)
    keep = create_key_file(folder, TENANT.origin)
    done = threading.Event()
    failures: list[AssayError] = []

    def read() -> None:
        while not done.is_set():
            try:
                assert keep in active(ring)
            except AssayError as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        retire_key_file(folder, create_key_file(folder, TENANT.origin))
    done.set()
    reader.join()
    assert failures == []


def test_an_origin_has_a_bounded_number_of_keys(folder: Path) -> None:
    for _ in range(MAX_KEYS_PER_ORIGIN):
        create_key_file(folder, TENANT.origin)
    with pytest.raises(Rejected, match="keys already"):
        create_key_file(folder, TENANT.origin)


def test_a_seed_is_in_no_repr_pickle_or_copy(folder: Path) -> None:
    seed = read_seed(path_of(folder, create_key_file(folder, TENANT.origin)))
    ring = FileKeyRing(folder)
    (signer,) = ring.active(TENANT)
    raw = parse_base64(seed)
    for shown in (repr(signer), str(signer), f"{signer}", repr(ring), repr(ring._loaded), repr(vars(ring))):
        assert seed not in shown
        assert raw.hex() not in shown
        assert repr(raw)[2:-1] not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(signer)


def test_read_signer_wants_exactly_one_key(folder: Path) -> None:
    with pytest.raises(NotFound, match="0 active"):
        read_signer(folder, "w")
    create_key_file(folder, "w")
    create_key_file(folder, "w")
    with pytest.raises(NotFound, match="2 active"):
        read_signer(folder, "w")


def test_the_seed_of_the_file_is_the_key(folder: Path) -> None:
    vkey = create_key_file(folder, TENANT.origin)
    seed = parse_base64(read_seed(path_of(folder, vkey)))
    assert format_base64(b"\x01" + bytes(SigningKey(seed).verify_key)) == vkey.split("+", 2)[2]
