"""Tables: the data of a bundle as rows with effective dates, in and out of CSV, and a bundle with one table changed.

A table is `data/<name>/data.json` of the form {"version": text, "rows": …, …}, where rows is a list of objects, or an
object of them by their `id`. Columns are the `properties.rows.items.properties` (`…additionalProperties.properties`)
of the JSON Schema beside it; without a schema, the fields that the rows have. A cell is plain text for a column of
strings, integers or booleans alone, with or without null, and JSON for every other. An empty cell is null where null
is allowed, the empty text where a text is required, and an absent field elsewhere.

Rows may hold `effective_from` and `effective_to`: the first day in force and the first day no more, as 2026-06-30 or
20260630. Where the schema says `"x-key": [columns]`, no two rows of one key are in force on one day.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, Final

from app.errors import Malformed, NotFound, TooLarge
from app.ledger.canonical import canonical, parse_json
from app.policy.bundle import MAX_FILE_BYTES, MAX_VERSION_CHARS, Bundle, make_bundle

MAX_ROWS: Final = 50_000
MAX_CELL_CHARS: Final = 4_096
ALWAYS: Final = (date.min, date.max)
ID: Final = "id"
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}", re.ASCII)
_SCALARS: Final[Mapping[type, str]] = {str: "string", int: "integer", bool: "boolean"}
_DAY: Final = re.compile(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What another version of a table does to the rows: counts, by whole rows."""

    rows: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column: `string`, `integer`, `boolean` or `json`; whether it may be null, and whether every row has it."""

    name: str
    kind: str
    nullable: bool
    required: bool


def list_rows(value: Any) -> Sequence[Row] | None:
    """Return the rows of a data file's value, each with its `id` if that is its key; None if it is no table."""
    rows = value.get("rows") if isinstance(value, dict) else None
    if isinstance(rows, dict) and all(isinstance(row, dict) and ID not in row for row in rows.values()):
        return [{ID: name, **row} for name, row in rows.items()]
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def format_csv(bundle: Bundle, table: str) -> str:
    """Return a table as CSV (RFC 4180, a header first). Raises NotFound, and Malformed if it cannot be told in CSV."""
    value, columns = _read(bundle, table), _list_columns(bundle, table)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.name for column in columns])
    for row in list_rows(value) or ():
        writer.writerow([_format_cell(column, row.get(column.name)) for column in columns])
    return out.getvalue()


def parse_csv(bundle: Bundle, table: str, text: str) -> list[dict[str, Any]]:
    """Return the rows in a CSV whose header has the table's columns, in any order; those not required may be missing.

    Raises NotFound without such a table, Malformed naming line and column, TooLarge over `MAX_ROWS`.
    """
    columns = {column.name: column for column in _list_columns(bundle, table)}
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name, column in columns.items() if column.required and name not in header]
        if missing or len(set(header)) != len(header) or not set(header) <= set(columns):
            raise _malformed(f"line 1: the columns are {', '.join(columns)}")
        rows: list[dict[str, Any]] = []
        for cells in reader:
            if len(rows) >= MAX_ROWS:
                raise TooLarge(f"a table has at most {MAX_ROWS:,} rows", code="table_too_large")
            rows.append(_parse_row([columns[name] for name in header], cells, reader.line_num))
    except csv.Error as error:
        raise _malformed(f"line {reader.line_num}: {error}") from None
    return rows


def change_table(bundle: Bundle, table: str, value: Mapping[str, Any]) -> tuple[Bundle, Change]:
    """Return the bundle with the table's data changed to `value`, and what that does to the rows.

    Raises NotFound without such a table, Malformed if it holds fractions, does not fit its schema,
    states no version, or says two things of one key for one day; TooLarge beyond a bundle's bounds.
    """
    before = _read(bundle, table)
    check_dates(table, value, bundle.schemas.get(table))
    changed = make_bundle({**bundle.files, f"data/{table}/data.json": _format(value)}, name=bundle.name)
    return changed, compare_rows(before, value)


def make_value(bundle: Bundle, table: str, rows: Sequence[Row], *, version: str) -> dict[str, Any]:
    """Return the table's value with other rows and another version; what else it says stays.

    Raises NotFound, and Malformed for a version that is none or an id that stands twice.
    """
    if not 0 < len(version) <= MAX_VERSION_CHARS:
        raise _malformed(f"a version has 1 to {MAX_VERSION_CHARS} characters")
    before = _read(bundle, table)
    if not isinstance(before.get("rows"), dict):
        return {**before, "version": version, "rows": list(rows)}
    by_id = {row[ID]: {name: cell for name, cell in row.items() if name != ID} for row in rows}
    if len(by_id) < len(rows):
        raise _malformed(f"{table}: an id stands twice")
    return {**before, "version": version, "rows": by_id}


def compare_rows(before: Any, after: Any) -> Change:
    """Return how many rows are there, and how many came and went; a changed row came and went."""
    old, new = (Counter(canonical(row) for row in list_rows(value) or ()) for value in (before, after))
    return Change(rows=new.total(), added=(new - old).total(), removed=(old - new).total())


def check_dates(table: str, value: Mapping[str, Any], schema: Any) -> None:
    """Raise Malformed for dates that are none, an end before its beginning, or two rows of one key on one day."""
    key = schema.get("x-key", []) if isinstance(schema, dict) else []
    spans: dict[bytes, list[tuple[date, date]]] = {}
    for number, row in enumerate(list_rows(value) or (), 1):
        begin, end = (
            _parse_date(row.get(name), otherwise, f"{table}, row {number}: {name}")
            for name, otherwise in zip(("effective_from", "effective_to"), ALWAYS, strict=True)
        )
        if begin >= end:
            raise _malformed(f"{table}, row {number}: effective_to is the first day no more in force, after the first")
        if key:
            spans.setdefault(canonical([row.get(column) for column in key]), []).append((begin, end))
    for each in spans.values():
        each.sort()
        if any(after[0] < before[1] for before, after in pairwise(each)):
            raise _malformed(f"{table}: two rows of one {', '.join(key)} are in force on one day")


def _format(value: Mapping[str, Any]) -> bytes:
    """Return the data file: each row a line, so that versions compare well."""
    lines = [f"{json.dumps(name)}: {_dump(part)}" for name, part in value.items() if name != "rows"]
    rows = value.get("rows")
    if isinstance(rows, dict):
        inner = ",\n".join(f"{json.dumps(name)}: {_dump(row)}" for name, row in rows.items())
        lines.append(f'"rows": {{\n{inner}\n}}')
    elif rows is not None:
        inner = ",\n".join(map(_dump, rows)) if isinstance(rows, list) else ""
        lines.append(f'"rows": [\n{inner}\n]' if isinstance(rows, list) else f'"rows": {_dump(rows)}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # `parse_json` makes no other kind of value that JSON's writer does not know
        raise _malformed("fractions are not allowed in a table; send integers (for money, minor units)") from None


def _read(bundle: Bundle, table: str) -> dict[str, Any]:
    value = bundle.data.get(table)
    if not isinstance(value, dict):
        raise NotFound("the bundle has no such table", code="table_unknown")
    return value


def _list_columns(bundle: Bundle, table: str) -> list[_Column]:
    """Return the columns, from the schema or else from the rows. Raises Malformed if it is no table."""
    rows = list_rows(_read(bundle, table))
    if rows is None:
        raise _malformed(f"{table} has no rows: read and write it as JSON")
    keyed = isinstance(bundle.data[table]["rows"], dict)
    if table not in bundle.schemas:
        return _infer_columns(rows, keyed=keyed)
    try:
        items = bundle.schemas[table]["properties"]["rows"]["additionalProperties" if keyed else "items"]
        required = set(items.get("required", []))
        columns = [_parse_column(name, schema, required) for name, schema in items["properties"].items()]
    except (KeyError, TypeError, AttributeError):
        raise _malformed(f"{table}: its schema does not name the columns of its rows") from None
    return [_Column(name=ID, kind="string", nullable=False, required=True), *columns] if keyed else columns


def _infer_columns(rows: Sequence[Row], *, keyed: bool) -> list[_Column]:
    """Return a column for each field that a row has, of the one type of its values, or of JSON."""
    names = list(dict.fromkeys([ID] * keyed + [name for row in rows for name in row]))
    columns = []
    for name in names:
        cells = [row[name] for row in rows if name in row]
        kinds = {_SCALARS.get(type(cell), "json") for cell in cells if cell is not None} or {"string"}
        columns.append(
            _Column(
                name=name,
                kind=kinds.pop() if len(kinds) == 1 else "json",
                nullable=None in cells,
                required=len(cells) == len(rows),
            )
        )
    return columns


def _parse_column(name: str, schema: Any, required: set[str]) -> _Column:
    kinds = schema.get("type", "json")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    plain = kinds - {"null"}
    kind = plain.pop() if len(plain) == 1 and plain <= set(_SCALARS.values()) else "json"
    return _Column(name=name, kind=kind, nullable="null" in kinds, required=name in required)


def _format_cell(column: _Column, value: Any) -> str:
    if value is None:
        return ""
    return value if column.kind == "string" and isinstance(value, str) else _dump(value)


def _parse_row(columns: Sequence[_Column], cells: Sequence[str], line: int) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise _malformed(f"line {line}: {len(cells)} cells, and {len(columns)} columns")
    return dict(_parse_cells(columns, cells, line))


def _parse_cells(columns: Sequence[_Column], cells: Sequence[str], line: int) -> Iterator[tuple[str, Any]]:
    for column, cell in zip(columns, cells, strict=True):
        if len(cell) > MAX_CELL_CHARS:
            raise TooLarge(f"line {line}, {column.name}: over {MAX_CELL_CHARS:,} characters", code="table_too_large")
        if cell == "" and (column.nullable or not column.required):
            if column.nullable:
                yield column.name, None
            continue
        yield column.name, _parse_cell(column, cell, line)


def _parse_cell(column: _Column, cell: str, line: int) -> Any:
    if column.kind == "string":
        return cell
    if column.kind == "integer" and _INTEGER.fullmatch(cell):
        return int(cell)
    if column.kind == "boolean" and cell in {"true", "false"}:
        return cell == "true"
    if column.kind == "json":
        try:
            return parse_json(cell.encode(), limit_bytes=MAX_FILE_BYTES)
        except Malformed:
            pass
    expected = {"integer": "a whole number", "boolean": "true or false", "json": "JSON"}[column.kind]
    raise _malformed(f"line {line}, {column.name}: not {expected}")


def _parse_date(value: Any, otherwise: date, place: str) -> date:
    if value is None:
        return otherwise
    text = str(value)
    try:
        if not isinstance(value, bool) and _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _malformed(f"{place} is not a date (2026-06-30)")


def _malformed(problem: str) -> Malformed:
    return Malformed(problem, code="table_malformed")
