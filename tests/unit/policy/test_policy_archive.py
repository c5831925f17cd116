"""Archives: the same bytes for the same content, and nothing believed of what comes from elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import Malformed, Rejected, TooLarge
from app.policy import archive as archives
from app.policy.archive import digest_tests, format_archive, hash_signed_file, parse_archive
from app.policy.bundle import make_bundle

FILES = {
    "b/b.rego": b"package b\n",
    "a/a.rego": b"package a\n\nx := 1\n",
    "data/d/data.json": b'{"version": "7", "rows": [1, 2]}',
    "data/d/schema.json": b'{"type": "object"}',
}
TESTS = {"a/a_test.rego": b"package a_test\n"}
BUNDLE = make_bundle(FILES, name="assay")
PACKED = format_archive(BUNDLE, tests=TESTS, signature="h.p.s")


def pack(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """Return a compressed archive as anybody may make one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return gzip.compress(packed.getvalue())


def link(path: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    return member


def test_an_archive_gives_back_what_it_was_made_of() -> None:
    unpacked = parse_archive(PACKED)
    assert (unpacked.bundle, unpacked.tests, unpacked.signature) == (BUNDLE, TESTS, "h.p.s")
    bare = parse_archive(format_archive(BUNDLE, tests={}, signature=None))
    assert (bare.bundle, bare.tests, bare.signature) == (BUNDLE, {}, None)


@given(st.permutations(sorted(FILES)))
def test_the_same_content_is_the_same_bytes_in_whatever_order_it_came(order: list[str]) -> None:
    again = make_bundle({path: FILES[path] for path in order}, name="assay")
    assert format_archive(again, tests=TESTS, signature="h.p.s") == PACKED


def test_the_bytes_are_those_of_every_machine_and_release() -> None:
    """Stored blocks, no times, no names: nothing that differs between compressors, clocks or people."""
    assert zlib.crc32(PACKED) == 3128655810, "change this only with the format"
    raw = gzip.decompress(PACKED)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert [m.name for m in tar] == sorted([".manifest", ".signatures.json", *FILES, *TESTS])
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_the_manifest_names_the_content_as_its_revision() -> None:
    assert json.loads(archives.format_manifest(BUNDLE)) == {
        "metadata": {"name": "assay"},
        "rego_version": 1,
        "revision": BUNDLE.digest,
        "roots": [""],
    }


def test_tests_are_no_part_of_the_digest_and_have_their_own() -> None:
    assert parse_archive(pack({**FILES, **TESTS}), name="assay").bundle.digest == BUNDLE.digest
    assert digest_tests(TESTS) != digest_tests({"a/a_test.rego": b"package a_test # \n"}) != digest_tests({})


def test_what_opa_build_writes_has_a_slash_before_each_name() -> None:
    assert parse_archive(pack({f"/{path}": content for path, content in FILES.items()}), name="assay").bundle == BUNDLE


@given(st.integers(0, len(PACKED) - 1))
def test_an_archive_that_is_cut_short_anywhere_is_refused(length: int) -> None:
    with pytest.raises(Malformed) as refused:
        parse_archive(PACKED[:length])
    assert refused.value.code == "bundle_malformed"


@given(st.integers(0, len(gzip.decompress(PACKED)) - 1))
def test_a_tar_that_is_cut_short_gives_the_whole_bundle_or_nothing(length: int) -> None:
    try:
        unpacked = parse_archive(gzip.compress(gzip.decompress(PACKED)[:length]))
    except Rejected:
        return
    assert unpacked.bundle == BUNDLE
    assert unpacked.tests == TESTS


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(gzip.decompress(PACKED)) - 1), st.integers(1, 255), st.booleans())
def test_a_flipped_byte_never_gives_another_bundle_under_the_same_name(place: int, change: int, outside: bool) -> None:
    data = bytearray(PACKED if outside else gzip.decompress(PACKED))
    data[place % len(data)] ^= change
    try:
        unpacked = parse_archive(bytes(data) if outside else gzip.compress(bytes(data)))
    except Rejected:
        return
    assert unpacked.bundle.digest == BUNDLE.digest, "the manifest names the content"


@given(st.binary(max_size=2048))
def test_bytes_of_anybody_are_refused_and_break_nothing(data: bytes) -> None:
    for archive in (data, gzip.compress(data), b"\x1f\x8b" + data):
        with pytest.raises(Rejected):
            parse_archive(archive, name="assay")


OUTSIDE = [
    *(
        "../a.rego",
        "a/../../b.rego",
        "//etc/a.rego",
        "./a.rego",
        "a//b.rego",
        "a\\b.rego",
        "C:a.rego",
        "a/b.rego\n",
        "",
    ),
    *(
        "a/é.rego",
        "a/.hidden.rego",
        "x",
        "a/b.wasm",
        "policy.wasm",
        "plan.json",
        "data.json",
        "data.yaml",
        ".manifest.pb",
    ),
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_name_outside_the_layout_is_refused(path: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_archive(pack({**FILES, path: b"package a\n"}), name="assay")
    assert refused.value.code == "bundle_malformed"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_a_link_or_a_device_is_refused(kind: bytes) -> None:
    with pytest.raises(Malformed, match="plain file"):
        parse_archive(pack(FILES, link("c/c.rego", kind)), name="assay")


def test_a_name_that_stands_twice_is_refused_even_as_a_path_with_a_slash() -> None:
    double = tarfile.TarInfo("/a/a.rego")
    with pytest.raises(Malformed, match="twice"):
        parse_archive(pack(FILES, double), name="assay")


def test_a_hundred_megabytes_are_refused_before_they_are_unpacked() -> None:
    with pytest.raises(TooLarge) as refused:
        parse_archive(b"\x1f\x8b" + bytes(100 * 1024 * 1024))
    assert refused.value.code == "bundle_too_large"


def test_a_gzip_bomb_is_never_unpacked() -> None:
    bomb = gzip.compress(bytes(100 * 1024 * 1024), 9)
    assert len(bomb) < 128 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            parse_archive(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * archives.MAX_ARCHIVE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("files", [{"a/a.rego": b"#" * (1024 * 1024 + 1)}, {f"a/a{n}.rego": b"" for n in range(600)}])
def test_a_file_too_large_or_too_many_files_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(TooLarge):
        parse_archive(pack(files), name="assay")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (".manifest", b"{"),
        (".manifest", b"[]"),
        (".manifest", b'{"revision": "other", "metadata": {"name": "assay"}}'),
        (".manifest", b'{"metadata": {"name": "assay"}}'),
        (".signatures.json", b"{}"),
        (".signatures.json", b'{"signatures": []}'),
        (".signatures.json", b'{"signatures": ["a", "b"]}'),
        (".signatures.json", b'{"signatures": [1]}'),
        (".signatures.json", b'{"signatures": ["a"], "plugin": "theirs"}'),
    ],
)
def test_a_manifest_or_signature_that_is_not_ours_is_refused(path: str, content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_archive(pack({**FILES, path: content}), name="assay")


def test_without_a_name_from_anywhere_it_is_refused() -> None:
    with pytest.raises(Malformed, match="name"):
        parse_archive(pack(FILES))


def test_two_archives_in_one_file_are_refused() -> None:
    with pytest.raises(Malformed, match="more than one"):
        parse_archive(PACKED + PACKED)


def test_a_minus_zero_cannot_be_signed_as_opa_would_read_it() -> None:
    with pytest.raises(Malformed, match="-0"):
        hash_signed_file("data/d/data.json", b'{"version": "1", "x": -0}')
