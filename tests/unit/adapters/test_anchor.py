"""The anchor in files: durable, atomic, one holder, and never mistaken for empty."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.adapters import anchor_file
from app.adapters.anchor_file import (
    MAX_ANCHOR_BYTES,
    SLOT_BYTES,
    AnchorUnavailableError,
    FileAnchor,
    parse_anchor,
)
from app.ledger.ports import NotLeaderError

ORIGIN = "log.example/acme"
ROOT = Path(__file__).resolve().parents[3]
HOLD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from app.adapters.anchor_file import FileAnchor
with FileAnchor(Path(sys.argv[1])).hold(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""
DIE_AT_STEP = """
import os, signal, sys
from pathlib import Path
from app.adapters.anchor_file import FileAnchor
steps = int(sys.argv[3])
def count(frame, event, function):
    global steps
    if event in ("c_call", "c_return") and function.__name__ in (
        "open", "read", "write", "pwrite", "flush", "fsync", "fdatasync", "replace", "close"
    ):
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
anchor = FileAnchor(Path(sys.argv[1]))
sys.setprofile(count)
anchor.write(sys.argv[2], b"new" * int(sys.argv[4]))
sys.setprofile(None)
print("written")
"""


@pytest.fixture
def anchor(tmp_path: Path) -> FileAnchor:
    return FileAnchor.create(tmp_path / "anchors")


def test_what_was_written_is_found_byte_for_byte(anchor: FileAnchor) -> None:
    assert anchor.find(ORIGIN) is None
    for checkpoint in (b"one", b"", b"\x00 not even text \xff" * 1000):
        anchor.write(ORIGIN, checkpoint)
        assert anchor.find(ORIGIN) == checkpoint


def test_origins_do_not_share_an_anchor(anchor: FileAnchor) -> None:
    anchor.write(ORIGIN, b"one")
    anchor.write("../../etc/passwd\n", b"two")
    assert (anchor.find(ORIGIN), anchor.find("../../etc/passwd\n")) == (b"one", b"two")


def test_only_the_owner_can_read_folder_and_files(anchor: FileAnchor, tmp_path: Path) -> None:
    with anchor.hold(ORIGIN):
        anchor.write(ORIGIN, b"one")
    paths = [tmp_path / "anchors", *(tmp_path / "anchors").iterdir()]
    assert len(paths) == 3
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_missing_folder_is_never_mistaken_for_a_log_that_never_signed(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "unmounted")
    with pytest.raises(AnchorUnavailableError):
        anchor.find(ORIGIN)
    with pytest.raises(AnchorUnavailableError):
        anchor.write(ORIGIN, b"one")
    with pytest.raises(AnchorUnavailableError), anchor.hold(ORIGIN):
        pass
    assert not (tmp_path / "unmounted").exists()


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_refuses_and_keeps_the_old_bytes(anchor: FileAnchor, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor.write(ORIGIN, b"one")
    monkeypatch.setattr(os, "pwrite", lambda _file, data, _at: len(data) - 1)
    with pytest.raises(AnchorUnavailableError, match="No space"):
        anchor.write(ORIGIN, b"two")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(AnchorUnavailableError, match="No space"):
        anchor.write(ORIGIN, b"two" * SLOT_BYTES)
    assert anchor.find(ORIGIN) == b"one"


def test_bytes_that_did_not_reach_the_disk_are_not_taken_for_durable(
    anchor: FileAnchor, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor.write(ORIGIN, b"one")
    monkeypatch.setattr(anchor_file, "_sync_data", refuse)
    with pytest.raises(AnchorUnavailableError, match="No space"):
        anchor.write(ORIGIN, b"two")


@pytest.mark.parametrize("kept", [0, 1, 50, 105, 106, 107, 250])
@pytest.mark.parametrize("tail", [b"", b"\xff" * 512])
def test_a_write_that_was_torn_leaves_the_old_bytes(anchor: FileAnchor, kept: int, tail: bytes) -> None:
    for number in range(1, 4):
        anchor.write(ORIGIN, b"%d" % number * 200)
    path = anchor._path(ORIGIN)
    before = path.read_bytes()
    anchor.write(ORIGIN, b"4" * 200)
    after = path.read_bytes()
    start = next(at for at in (0, SLOT_BYTES) if before[at : at + SLOT_BYTES] != after[at : at + SLOT_BYTES])
    torn = after[: start + kept] + tail
    path.write_bytes(torn + before[len(torn) :])
    assert anchor.find(ORIGIN) == b"3" * 200
    anchor.write(ORIGIN, b"5" * 200)
    assert anchor.find(ORIGIN) == b"5" * 200


def test_a_file_whose_slots_are_both_damaged_is_never_mistaken_for_a_log_that_never_signed(anchor: FileAnchor) -> None:
    anchor.write(ORIGIN, b"one")
    path = anchor._path(ORIGIN)
    path.write_bytes(path.read_bytes().replace(b"\none", b"\ntwo"))
    with pytest.raises(AnchorUnavailableError, match=f"{path} is damaged"):
        anchor.find(ORIGIN)


def test_a_file_of_an_earlier_version_is_read_and_replaced(anchor: FileAnchor) -> None:
    path = anchor._path(ORIGIN)
    path.write_bytes(b"log.example/acme\n1\n")
    assert anchor.find(ORIGIN) == parse_anchor(path.read_bytes(), path) == b"log.example/acme\n1\n"
    for checkpoint in (b"two", b"three"):
        anchor.write(ORIGIN, checkpoint)
        assert anchor.find(ORIGIN) == parse_anchor(path.read_bytes(), path) == checkpoint


def test_a_file_grows_with_what_it_holds(anchor: FileAnchor) -> None:
    for length in (1, SLOT_BYTES - 106, SLOT_BYTES - 105, 3 * SLOT_BYTES, 5, MAX_ANCHOR_BYTES):
        anchor.write(ORIGIN, bytes(length))
        assert anchor.find(ORIGIN) == bytes(length)
    assert anchor._path(ORIGIN).stat().st_size == 4 * MAX_ANCHOR_BYTES


def test_an_anchor_that_is_a_symlink_or_a_folder_is_refused(anchor: FileAnchor, tmp_path: Path) -> None:
    path = anchor._path(ORIGIN)
    (tmp_path / "elsewhere").write_bytes(b"one")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AnchorUnavailableError):
        anchor.find(ORIGIN)
    path.unlink()
    path.mkdir()
    with pytest.raises(AnchorUnavailableError):
        anchor.find(ORIGIN)
    with pytest.raises(AnchorUnavailableError):
        anchor.write(ORIGIN, b"two")


def test_no_more_is_read_than_the_bound(anchor: FileAnchor) -> None:
    anchor._path(ORIGIN).write_bytes(bytes(MAX_ANCHOR_BYTES + 1))
    assert anchor.find(ORIGIN) == bytes(MAX_ANCHOR_BYTES)


def test_a_second_holder_is_refused_at_once_and_another_origin_is_not(anchor: FileAnchor) -> None:
    with anchor.hold(ORIGIN):
        with pytest.raises(NotLeaderError), anchor.hold(ORIGIN):
            pass
        with anchor.hold("log.example/other"):
            pass
    with anchor.hold(ORIGIN):
        pass


def test_the_lock_is_freed_when_the_holder_raises(anchor: FileAnchor) -> None:
    with pytest.raises(ZeroDivisionError), anchor.hold(ORIGIN):
        raise ZeroDivisionError
    with anchor.hold(ORIGIN):
        pass


def test_a_holder_that_may_wait_gets_the_lock_when_it_is_free(anchor: FileAnchor, tmp_path: Path) -> None:
    patient = FileAnchor(tmp_path / "anchors", lock_wait_s=10)
    held, order = threading.Event(), []

    def wait() -> None:
        held.wait()
        with patient.hold(ORIGIN):
            order.append("second")

    waiter = threading.Thread(target=wait)
    waiter.start()
    with anchor.hold(ORIGIN):
        held.set()
        order.append("first")
    waiter.join()
    assert order == ["first", "second"]


def test_kill_9_frees_the_lock(anchor: FileAnchor, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLD_UNTIL_KILLED, str(tmp_path / "anchors"), ORIGIN]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(NotLeaderError), anchor.hold(ORIGIN):
            pass
        holder.kill()
        holder.wait()
        with anchor.hold(ORIGIN):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("length", [5, 9000], ids=["in place", "anew"])
def test_kill_9_at_any_step_of_a_write_leaves_the_old_bytes_or_the_new(
    anchor: FileAnchor, tmp_path: Path, length: int
) -> None:
    seen = []
    deadline = time.monotonic() + 120
    for step in range(1, 60):
        anchor._path(ORIGIN).unlink(missing_ok=True)
        anchor.write(ORIGIN, b"old")
        died = subprocess.run(
            [sys.executable, "-c", DIE_AT_STEP, str(tmp_path / "anchors"), ORIGIN, str(step), str(length // 3)],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        found = anchor.find(ORIGIN)
        assert found in {b"old", b"new" * (length // 3)}
        seen.append(found == b"old")
        if died.returncode == 0:
            break
        assert died.returncode == -signal.SIGKILL
        assert time.monotonic() < deadline
    assert seen == sorted(seen, reverse=True)
    assert seen[0]
    assert not seen[-1]
    assert len(seen) > 6
