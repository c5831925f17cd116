"""Bundles: the Rego modules and data of one set of policies, named by the digest of their content.

A directory holds `<package>/<name>.rego`, with `<name>_test.rego` beside it, and `data/<name>/data.json`, which
policies read as `data.data.<name>`: OPA's own rule of where a data file is mounted. A `data/<name>/schema.json` beside
it is a JSON Schema that the data must fit. Tests are not in the bundle.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema_rs

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.canonical import canonical, parse_json
from app.policy.decision import BundleRef, DataVersion

MAX_BUNDLE_FILES = 256
MAX_BUNDLE_BYTES = 8 * 1024 * 1024
MAX_FILE_BYTES = 1024 * 1024
MAX_DIRECTORY_DEPTH = 8
MAX_VERSION_CHARS = 64

TEST_SUFFIX = "_test.rego"

_PATH = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*\.(rego|json)", re.ASCII)
_DATA_PATH = re.compile(r"data/([a-z][a-z0-9_]*)/(data|schema)\.json", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A set of policies. `modules` is Rego by path; `data` is mounted at `data.data`, by file; `files` has the bytes.

    `digest` is the SHA-256, in hex, of the RFC 8785 array of [path, SHA-256 in hex of the file], sorted by path.
    """

    name: str
    files: Mapping[str, bytes]
    modules: Mapping[str, str]
    data: Mapping[str, Any]
    schemas: Mapping[str, Any]
    data_versions: tuple[DataVersion, ...]
    digest: str

    @property
    def ref(self) -> BundleRef:
        """What a decision's record says of this bundle."""
        return BundleRef(name=self.name, digest=self.digest, data=self.data_versions)


def load_bundle(root: Path, *, name: str, with_tests: bool = False) -> Bundle:
    """Return the bundle of the directory `root`; raises as `read_files` and `make_bundle` do."""
    return make_bundle(read_files(root, with_tests=with_tests), name=name)


def read_files(root: Path, *, with_tests: bool) -> dict[str, bytes]:
    """Return the files of the directory `root` by relative path.

    Names that begin with a dot are skipped. Raises Malformed for links, special files, and what cannot be read, and
    TooLarge beyond the bounds above.
    """
    files: dict[str, bytes] = {}
    for path in _walk(root):
        if path.name.endswith(TEST_SUFFIX) and not with_tests:
            continue
        files[path.relative_to(root).as_posix()] = _read_file(path)
        _check_size(files)
    return files


def make_bundle(files: Mapping[str, bytes], *, name: str) -> Bundle:
    """Return the bundle of `files` by relative path.

    Raises Malformed for a file that is neither a module, data nor a schema of data (a misnamed file must not be left
    out in silence) and for data that does not fit its schema; TooLarge beyond the bounds above.
    """
    _check_size(files)
    modules: dict[str, str] = {}
    data: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    versions: list[DataVersion] = []
    digests = {path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files)}
    for path, digest in digests.items():
        if not _PATH.fullmatch(path):
            raise _malformed(path, "paths are lower-case names and end in .rego or .json, inside the bundle")
        if path.endswith(".rego"):
            modules[path] = _decode(path, files[path])
            continue
        table, kind = _parse_data_path(path)
        value = _parse_json(path, files[path])
        if kind == "schema":
            schemas[table] = value
            continue
        versions.append(DataVersion(name=table, version=_read_version(path, value), digest=digest))
        data[table] = value
    if not modules:
        raise Malformed(f"the bundle {name!r} holds no .rego file", code="bundle_malformed")
    for table, schema in schemas.items():
        _check_schema(table, schema, data.get(table))
    return Bundle(
        name=name,
        files=MappingProxyType(dict(sorted(files.items()))),
        modules=MappingProxyType(modules),
        data=MappingProxyType(data),
        schemas=MappingProxyType(schemas),
        data_versions=tuple(versions),
        digest=hashlib.sha256(canonical(list(digests.items()))).hexdigest(),
    )


def _walk(directory: Path, depth: int = 1) -> Iterator[Path]:
    """Yield the regular files below `directory`, and follow no link."""
    if depth > MAX_DIRECTORY_DEPTH:
        raise TooLarge(f"{directory}: nested deeper than {MAX_DIRECTORY_DEPTH} directories", code="bundle_too_large")
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise _malformed(str(directory), error.strerror or "cannot be listed") from error
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_symlink():
            raise _malformed(str(path), "is a symbolic link; a bundle holds its own files only")
        if path.is_dir():
            yield from _walk(path, depth + 1)
        else:
            yield path


def _read_file(path: Path) -> bytes:
    """Return the bytes of a regular file; a link or pipe put in its place since the walk is refused, not opened."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _malformed(str(path), "is not a regular file")
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _malformed(str(path), error.strerror or "cannot be read") from error


def _check_size(files: Mapping[str, bytes]) -> None:
    if len(files) > MAX_BUNDLE_FILES:
        raise TooLarge(f"a bundle has at most {MAX_BUNDLE_FILES} files", code="bundle_too_large")
    for path, content in files.items():
        if len(content) > MAX_FILE_BYTES:
            raise TooLarge(f"{path}: over {MAX_FILE_BYTES:,} bytes", code="bundle_too_large")
    if sum(map(len, files.values())) > MAX_BUNDLE_BYTES:
        raise TooLarge(f"a bundle has at most {MAX_BUNDLE_BYTES:,} bytes", code="bundle_too_large")


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _malformed(path, "is not UTF-8") from error


def _parse_data_path(path: str) -> tuple[str, str]:
    match = _DATA_PATH.fullmatch(path)
    if match is None:
        raise _malformed(path, "data files are data/<name>/data.json, with data/<name>/schema.json beside it")
    return match[1], match[2]


def _parse_json(path: str, content: bytes) -> Any:
    """Return the object in a data file: exact JSON, whose canonical form says the same."""
    try:
        value = parse_json(content, limit_bytes=MAX_FILE_BYTES)
        canonical(value)
    except Rejected as error:
        raise _malformed(path, str(error)) from error
    if not isinstance(value, dict):
        raise _malformed(path, "is not a JSON object")
    return value


def _read_version(path: str, value: Any) -> str:
    version = value.get("version")
    if not isinstance(version, str) or not 0 < len(version) <= MAX_VERSION_CHARS:
        raise _malformed(path, f"states no `version` (text, at most {MAX_VERSION_CHARS} characters)")
    return version


def _check_schema(table: str, schema: Any, value: Any) -> None:
    """Refuse data that does not fit its own schema. The schema may refer to nothing outside itself."""
    path = f"data/{table}/data.json"
    if value is None:
        raise _malformed(f"data/{table}/schema.json", "has no data.json beside it")
    try:
        validator = jsonschema_rs.validator_for(
            schema, offline=True, mask="the value", pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise _malformed(f"data/{table}/schema.json", "is not a JSON Schema that stands alone") from error
    if validator.is_valid(value):
        return
    problem = next(iter(validator.iter_errors(value)))
    place = "".join(f"/{part}" for part in problem.instance_path) or "/"
    raise _malformed(path, f"{place}: {problem.message}")


def _malformed(path: str, problem: str) -> Malformed:
    return Malformed(f"{path}: {problem}", code="bundle_malformed")
