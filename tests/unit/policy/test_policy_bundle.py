"""Bundles: their digest, their layout and their bounds."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from app.errors import Malformed, TooLarge
from app.policy import bundle as bundles
from app.policy.bundle import load_bundle, make_bundle

REGO = b"package a\n"
DATA = b'{"version": "7"}'


def test_the_digest_is_that_of_the_sorted_paths_and_their_digests():
    files = {"b/b.rego": REGO, "a/a.rego": REGO + b"x := 1\n", "data/d/data.json": DATA}
    pairs = [[path, hashlib.sha256(files[path]).hexdigest()] for path in sorted(files)]
    expected = hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()
    assert make_bundle(files, name="x").digest == expected
    assert make_bundle(dict(reversed(files.items())), name="y").digest == expected


def test_a_data_file_has_its_own_version_and_digest():
    (version,) = make_bundle({"a/a.rego": REGO, "data/d/data.json": DATA}, name="x").data_versions
    assert (version.name, version.version, version.digest) == ("d", "7", hashlib.sha256(DATA).hexdigest())


@pytest.mark.parametrize(
    "path",
    [
        "../a.rego",
        "a/../../b.rego",
        "/etc/a.rego",
        "a//b.rego",
        "./a.rego",
        "a\\b.rego",
        "a/B.rego",
        "a/b.rego\n",
        "a/b.rego\x00",
        "a/é.rego",
        "a/b.txt",
        "a/b.json",
        "data/data.json",
        "data/a/b/data.json",
        "data/a/other.json",
    ],
)
def test_a_path_outside_the_layout_is_refused(path):
    with pytest.raises(Malformed):
        make_bundle({"a/a.rego": REGO, path: DATA}, name="x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 1}',
        b'{"version": ""}',
        b'{"version": "1", "version": "2"}',
        b'{"version": "1", "rate": 0.5}',
        b'{"version": "1", "x": NaN}',
        b'{"version": "1", "x": 9007199254740993}',
        b'{"version": "\xff"}',
        b'{"version": "1", "x": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_data_that_is_not_exact_and_versioned_is_refused(content):
    with pytest.raises(Malformed, match=r"data/d/data\.json"):
        make_bundle({"a/a.rego": REGO, "data/d/data.json": content}, name="x")


def test_a_module_that_is_not_utf8_is_refused():
    with pytest.raises(Malformed, match="UTF-8"):
        make_bundle({"a/a.rego": b"package a # \xff"}, name="x")


def test_an_empty_bundle_is_refused(tmp_path):
    with pytest.raises(Malformed, match=r"no \.rego"):
        load_bundle(tmp_path, name="x")


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(Malformed):
        load_bundle(tmp_path / "absent", name="x")


def test_a_link_out_of_the_bundle_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.rego").write_bytes(REGO)
    for kind in ("file", "directory"):
        root = tmp_path / kind
        root.mkdir()
        (root / "a.rego").write_bytes(REGO)
        target = outside / "secret.rego" if kind == "file" else outside
        (root / "b.rego").symlink_to(target)
        with pytest.raises(Malformed, match="symbolic link"):
            load_bundle(root, name="x")


def test_a_link_swapped_in_after_the_walk_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(REGO)
    link = tmp_path / "a.rego"
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(Malformed):
        bundles._read_file(link)


def test_a_pipe_is_refused_and_does_not_block(tmp_path):
    (tmp_path / "a.rego").write_bytes(REGO)
    os.mkfifo(tmp_path / "b.rego")
    with pytest.raises(Malformed, match="regular file"):
        load_bundle(tmp_path, name="x")


def test_a_misnamed_file_is_refused_and_not_left_out_in_silence(tmp_path):
    (tmp_path / "a.rego").write_bytes(REGO)
    (tmp_path / ".keep").write_bytes(b"")
    load_bundle(tmp_path, name="x")
    (tmp_path / "b.rego.txt").write_bytes(REGO)
    with pytest.raises(Malformed):
        load_bundle(tmp_path, name="x")


def test_a_bundle_beyond_a_bound_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.rego").write_bytes(b"package a\n" + b"#" * bundles.MAX_FILE_BYTES)
    with pytest.raises(TooLarge):
        load_bundle(tmp_path, name="x")
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 30)
    with pytest.raises(TooLarge):
        make_bundle({f"a/a{n}.rego": REGO for n in range(4)}, name="x")
    with pytest.raises(TooLarge):
        make_bundle({f"a/a{n}.rego": b"" for n in range(bundles.MAX_BUNDLE_FILES + 1)}, name="x")
    deep = tmp_path.joinpath(*"abcdefghi")
    deep.mkdir(parents=True)
    (tmp_path / "a.rego").unlink()
    with pytest.raises(TooLarge):
        load_bundle(tmp_path, name="x")
