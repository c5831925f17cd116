"""The pepper: a file of the owner's alone, made once, never shown."""

from __future__ import annotations

import stat

import pytest

from app.credentials.pepper import Pepper, create_pepper, read_pepper
from app.errors import Broken, Conflict, Unavailable

SECRET = bytes(range(100, 132))


def test_what_was_made_is_read_and_only_by_the_owner(tmp_path) -> None:
    path = tmp_path / "pepper"
    assert create_pepper(path, SECRET) == read_pepper(path) == Pepper(SECRET)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_pepper_is_never_replaced(tmp_path) -> None:
    create_pepper(tmp_path / "pepper", SECRET)
    with pytest.raises(Conflict):
        create_pepper(tmp_path / "pepper", bytes(32))
    assert read_pepper(tmp_path / "pepper") == Pepper(SECRET)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_pepper_that_others_may_read_is_refused(tmp_path, mode) -> None:
    create_pepper(tmp_path / "pepper", SECRET)
    (tmp_path / "pepper").chmod(mode)
    with pytest.raises(Broken) as broken:
        read_pepper(tmp_path / "pepper")
    assert broken.value.code == "pepper_open"


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64])
def test_anything_else_is_no_pepper_and_is_not_repeated(tmp_path, content) -> None:
    path = tmp_path / "pepper"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(Broken) as broken:
        read_pepper(path)
    assert (broken.value.code, "zz" in str(broken.value)) == ("pepper_malformed", False)


def test_a_missing_folder_is_said(tmp_path) -> None:
    with pytest.raises(Unavailable):
        read_pepper(tmp_path / "none")
    with pytest.raises(Unavailable):
        create_pepper(tmp_path / "none" / "pepper", SECRET)


def test_it_is_never_shown() -> None:
    assert repr(Pepper(SECRET)) == "Pepper()"
    with pytest.raises(ValueError, match="32 bytes"):
        Pepper(b"short")
