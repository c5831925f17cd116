"""Archives: a bundle as one file that OPA itself loads and verifies (OPA's bundle format, version 1 of Rego).

    .manifest          {"metadata": {"name"}, "rego_version": 1, "revision": the content digest, "roots": [""]}
    .signatures.json   {"signatures": [JWT]}, whose payload names the SHA-256 of every other file
    <files>            as `app.policy.bundle` lays them out

The same content gives the same bytes, on every machine: files in order, no times, and gzip in stored blocks, since
compressors differ. An archive from elsewhere is believed in nothing: sizes are bounded before anything is unpacked,
and a name, kind or file that is not ours is refused.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NoReturn

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.canonical import canonical, parse_json
from app.policy.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_FILES,
    MAX_FILE_BYTES,
    TEST_SUFFIX,
    Bundle,
    make_bundle,
)

MAX_ARCHIVE_BYTES: Final = 2 * MAX_BUNDLE_BYTES
"""Of an archive as it arrives, and of what it unpacks to."""
MAX_ARCHIVE_FILES: Final = 2 * MAX_BUNDLE_FILES
"""Policies, data and tests together."""
MAX_PATH_CHARS: Final = 255
MAX_CONTROL_FILE_BYTES: Final = 256 * 1024
"""Of `.manifest` and `.signatures.json`."""

MANIFEST: Final = ".manifest"
SIGNATURES: Final = ".signatures.json"

_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_STORED_BLOCK_BYTES: Final = 0xFFFF
_ANY_GZIP: Final = 31  # zlib's word for "a gzip file"
_PRINTABLE: Final = frozenset(range(0x20, 0x7F))
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What an archive held: the bundle, the tests beside it by path, and its signature, which nobody has verified."""

    bundle: Bundle
    tests: Mapping[str, bytes]
    signature: str | None


def format_manifest(bundle: Bundle) -> bytes:
    """Return `.manifest`: the whole document tree is the bundle's, so that nothing else can be pushed into it."""
    return canonical({"metadata": {"name": bundle.name}, "rego_version": 1, "revision": bundle.digest, "roots": [""]})


def list_signed_files(bundle: Bundle, tests: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return every file that the archive's signature must name."""
    return {MANIFEST: format_manifest(bundle), **bundle.files, **tests}


def format_archive(bundle: Bundle, *, tests: Mapping[str, bytes], signature: str | None) -> bytes:
    """Return the archive. With tests it is what an author hands over, without what engines load."""
    files = list_signed_files(bundle, tests)
    if signature is not None:
        files[SIGNATURES] = canonical({"signatures": [signature]})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(files[path]), 0o644
            tar.addfile(member, io.BytesIO(files[path]))
    return _store(packed.getvalue())


def parse_archive(data: bytes, *, name: str | None = None) -> Unpacked:
    """Return what is in an archive. `name` is the bundle's; when absent, the manifest must say it.

    Raises TooLarge beyond the bounds above, and Malformed for what is not a whole gzip of a tar, for links, devices,
    names that leave the bundle or stand twice, files that are not of a bundle, and a manifest of another content.
    """
    files = _read_members(_inflate(data))
    manifest = _parse_control(MANIFEST, files.pop(MANIFEST, None))
    signature = _parse_signature(_parse_control(SIGNATURES, files.pop(SIGNATURES, None)))
    tests = {path: content for path, content in files.items() if path.endswith(TEST_SUFFIX)}
    if tests:
        make_bundle(tests, name="tests")  # a test's path and size are bound as a policy's are
    stated = manifest.get("metadata", {}) if manifest else {}
    stated_name = stated.get("name") if isinstance(stated, dict) else None
    bundle = make_bundle(
        {path: content for path, content in files.items() if path not in tests}, name=name or _check_name(stated_name)
    )
    if manifest is not None and manifest.get("revision") != bundle.digest:
        _refuse(f"{MANIFEST} states another revision than {bundle.digest}, the digest of the content")
    return Unpacked(bundle=bundle, tests=tests, signature=signature)


def digest_tests(tests: Mapping[str, bytes]) -> str:
    """Return the digest of a set of tests, made as a bundle's is."""
    return sha256(canonical([[path, sha256(tests[path]).hexdigest()] for path in sorted(tests)])).hexdigest()


def hash_signed_file(path: str, content: bytes) -> str:
    """Return the SHA-256, in hex, by which OPA's signatures name a file: of JSON, the hash of its value.

    OPA writes a value as RFC 8785 does for what bundles may hold, but for two line separators, which it escapes, and
    a minus zero, which it keeps: that is refused. Raises Malformed.
    """
    if not path.endswith(("/data.json", MANIFEST)):
        return sha256(content).hexdigest()
    json.loads(content, parse_int=lambda text: _refuse(f"{path}: -0 is written as 0") if text == "-0" else 0)
    text = canonical(parse_json(content, limit_bytes=MAX_FILE_BYTES)).decode()
    return sha256(text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()).hexdigest()


def _store(data: bytes) -> bytes:
    """Return `data` as gzip in stored blocks (RFC 1951, 3.2.4; RFC 1952)."""
    blocks = [_GZIP_HEADER]
    for start in range(0, len(data), _STORED_BLOCK_BYTES):
        block = data[start : start + _STORED_BLOCK_BYTES]
        last = start + len(block) == len(data)
        size = len(block)
        blocks += [bytes([last]), size.to_bytes(2, "little"), (size ^ 0xFFFF).to_bytes(2, "little"), block]
    blocks += [zlib.crc32(data).to_bytes(4, "little"), (len(data) & 0xFFFFFFFF).to_bytes(4, "little")]
    return b"".join(blocks)


def _inflate(data: bytes) -> bytes:
    """Return the one gzip member that `data` is, never unpacking more than the bound."""
    if len(data) > MAX_ARCHIVE_BYTES:
        raise _too_large(f"an archive has at most {MAX_ARCHIVE_BYTES:,} bytes")
    inflater = zlib.decompressobj(_ANY_GZIP)
    try:
        unpacked = inflater.decompress(data, MAX_ARCHIVE_BYTES + 1)
    except zlib.error:
        _refuse("it is not a gzip file, or is damaged")
    if len(unpacked) > MAX_ARCHIVE_BYTES:
        raise _too_large(f"an archive unpacks to at most {MAX_ARCHIVE_BYTES:,} bytes")
    if not inflater.eof or inflater.unused_data:
        _refuse("it is cut short, or more than one gzip file")
    return unpacked


def _read_members(data: bytes) -> dict[str, bytes]:
    """Return the regular files of a tar by path."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if not member.isdir():
                    _add_member(files, tar, member)
    except (tarfile.TarError, OSError, ValueError, OverflowError, LookupError, AttributeError):
        _refuse("it is not a tar of plain files, or is cut short")
    return files


def _add_member(files: dict[str, bytes], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = member.name.removeprefix("/")  # as `opa build` writes them
    if not 0 < len(path) <= MAX_PATH_CHARS or not _PRINTABLE.issuperset(path.encode(errors="replace")):
        _refuse("it holds a name that is no file's of a bundle")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        _refuse(f"{path} is a link or no plain file; a bundle holds its own files only")
    if path in files:
        _refuse(f"{path} stands in it twice")
    if len(files) >= MAX_ARCHIVE_FILES:
        raise _too_large(f"an archive has at most {MAX_ARCHIVE_FILES} files")
    opened = tar.extractfile(member)
    content = opened.read(MAX_FILE_BYTES + 1) if opened is not None else b""
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(f"{path}: over {MAX_FILE_BYTES:,} bytes")
    if len(content) != member.size:
        _refuse(f"{path} is cut short")
    files[path] = content


def _parse_control(path: str, content: bytes | None) -> dict[str, Any] | None:
    if content is None:
        return None
    try:
        value = parse_json(content, limit_bytes=MAX_CONTROL_FILE_BYTES)
    except Rejected as error:
        _refuse(f"{path}: {error}")
    if not isinstance(value, dict):
        _refuse(f"{path} is not a JSON object")
    return value


def _parse_signature(value: dict[str, Any] | None) -> str | None:
    """Return the one JWT, as OPA wants exactly one."""
    if value is None:
        return None
    signatures = value.get("signatures")
    if set(value) != {"signatures"} or not isinstance(signatures, list) or len(signatures) != 1:
        _refuse(f"{SIGNATURES} holds other than one signature")
    if not isinstance(signatures[0], str):
        _refuse(f"{SIGNATURES} holds other than one signature")
    return signatures[0]


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        _refuse(f"{MANIFEST} states no name (a-z, 0-9, _ and -, at most 64) in its metadata")
    return name


def _refuse(problem: str) -> NoReturn:
    raise Malformed(f"the archive cannot be read: {problem}", code="bundle_malformed")


def _too_large(problem: str) -> TooLarge:
    return TooLarge(problem, code="bundle_too_large")
