"""The law of keeping and erasing: the readings of `retention_by_jurisdiction.csv`, field by field.

The fields: `identity` (who the person is), `id_document` (the copy), `transaction` (what was paid), `screening` (the
evidence of a check), `books`, `vouchers` and `letters` (tax and trade law), `log` (of access), `pan` and `sad` (a
card's number, and what authorises with it). The CSV names no event for books: those rows are M, so that a person looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scripts.law.table import BEGINS, EU, OPEN_END, TRUSTED, ReadingError, Row, require_all_read, require_evidence

VERSION: Final = "2026-11-25.1"
NOTE: Final = (
    "Made by `python -m scripts.law retention`; see docs/policies.md. Days are integers in UTC; effective_to is the "
    "first day on which a row is no longer law. 20241230 is where the table begins, and 99991231 an end that is not "
    "known. A clock starts at the latest of the row's events, or at the end of that year, or on 1 January after it."
)
AMLR: Final = 20270710
AML: Final = ("identity", "id_document", "transaction")
ENDS: Final = ("relationship_end", "transaction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One duty. `evidence` are the patterns that the CSV's row must hold; the years are checked besides."""

    row: str
    statute: str
    fields: tuple[str, ...] = AML
    floor: int | None = None
    ceiling: int | None = None
    lock: int | None = None
    events: tuple[str, ...] = ENDS
    clock: str = "event"
    begins: int = BEGINS
    ends: int = OPEN_END
    confidence: str | None = None
    notice_hours: int | None = None
    at_once: bool = False
    evidence: tuple[str, ...] = ()


def _aml(row: str, floor: int, statute: str, **more: Any) -> Reading:
    """Return the duty of the AML act to keep, which the AMLR ends in a member state."""
    return Reading(row=row, statute=statute, floor=floor, ends=AMLR if row in EU else OPEN_END, **more)


def _books(row: str, floor: int, statute: str, *, field: str = "books", **more: Any) -> Reading:
    """Return the duty of tax or trade law to keep; the CSV does not say from when."""
    return Reading(
        row=row, statute=statute, fields=(field,), floor=floor, events=("record_made",), clock="year_end",
        confidence="M", **more,
    )  # fmt: skip


READINGS: Final = (
    Reading(
        row="US", statute="31 CFR 1010.430", fields=("transaction",), floor=5, events=("record_made",),
        evidence=(r"5 y \(31 CFR 1010\.430\)",),
    ),
    Reading(
        row="US", statute="31 CFR 1020.220(a)(3)(ii)", fields=("identity",), floor=5, events=("relationship_end",),
        evidence=("5 y after account closed",),
    ),
    Reading(
        row="US", statute="31 CFR 1020.220(a)(3)(ii)", fields=("id_document",), floor=5, events=("record_made",),
        evidence=("verification records 5 y after made",),
    ),
    Reading(
        row="US", statute="31 CFR 501.601", fields=("screening",), floor=10, begins=20250312,
        events=("transaction", "property_unblocked"), evidence=("10 y after transaction / unblocking", "12 Mar 2025"),
    ),
    Reading(
        row="EU-AMLR", statute="Regulation (EU) 2024/1624 Art 77", floor=5, ceiling=5, begins=AMLR,
        events=("relationship_end", "transaction", "refusal"), evidence=(r"art 77\(3\)", "then delete", "refusal"),
    ),
    _aml(
        "DE", 5, "GwG s.8(4)", ceiling=10, clock="year_end", events=("relationship_end",),
        evidence=("at latest after 10", "end of calendar year"),
    ),
    _books("DE", 10, "HGB s.257, AO s.147", evidence=("10 y books",)),
    _books("DE", 8, "HGB s.257, AO s.147", field="vouchers", begins=20250101, evidence=("8 y vouchers",)),
    _books("DE", 6, "HGB s.257, AO s.147", field="letters", evidence=("6 y letters",)),
    _aml("FR", 5, "CMF L561-12"),
    _books("FR", 10, "C.com L123-22"),
    _aml("IT", 10, "D.Lgs 231/2007 Art 31"),
    _books("IT", 10, "c.c. 2220"),
    _aml("ES", 10, "Ley 10/2010 Art 25", lock=5, evidence=("after 5 y locked",)),
    _books("ES", 6, "C.Com Art 30"),
    _aml("NL", 5, "Wwft Art 33(3), 34"),
    _books("NL", 7, "AWR Art 52"),
    _aml("PL", 5, "Act of 1 Mar 2018 Art 49"),
    _books("PL", 5, "Act of 1 Mar 2018; tax law"),
    Reading(
        row="GB", statute="MLR 2017 reg 40(3)-(5)", fields=("identity", "id_document"), floor=5, ceiling=5,
        evidence=("MUST delete",),
    ),
    Reading(  # the cap of ten years within a relationship is not modelled, so a person looks
        row="GB", statute="MLR 2017 reg 40(3)-(5)", fields=("transaction",), floor=5, ceiling=5, confidence="M",
        evidence=("MUST delete", "not over 10 y"),
    ),
    _books("GB", 6, "CA 2006 s.388; FA 1998 Sch 18 para 21"),
    _aml("CH", 10, "AMLA Art 7(3)"),
    _books("CH", 10, "OR Art 958f"),
    _aml("CA", 5, "PCMLTFR s.148", events=("relationship_end", "transaction", "record_made")),
    _books("CA", 6, "ITA s.230"),
    _aml("MX", 10, "LFPIORPI Art 18", events=("transaction",)),
    _books("MX", 5, "CFF Art 30"),
    _aml("BR", 10, "Circular BCB 3.978/2020 Art 67", clock="next_january", evidence=("1 Jan after",)),
    _books("BR", 5, "CTN Art 173-174"),
    _aml("IN", 5, "PMLA s.12(3)-(4)"),
    _books("IN", 8, "Companies Act s.128(5)"),
    Reading(
        row="IN", statute="DPDP Rules 2025 r.8", fields=("log",), floor=1, events=("record_made",), begins=20270513,
        notice_hours=48, evidence=("1 y logs minimum", "48 h notice", "13 May 2027"),
    ),
    _aml("SG", 5, "MAS Notice 626 para 12"),
    _books("SG", 5, "Companies Act s.199"),
    _aml("HK", 5, "AMLO Sch 2 s.20"),
    _books("HK", 7, "IRO s.51C"),
    _aml("JP", 7, "Act 22/2007 Art 6(2), 7(3)"),
    _books("JP", 7, "Tax law of Japan"),
    _aml("KR", 5, "FTRA Art 5-4", events=("relationship_end",)),
    _books("KR", 10, "Commercial Act Art 33"),
    _aml("AU", 7, "AML/CTF Act 2006 Part 10", events=("record_made", "relationship_end")),
    _books("AU", 7, "Corporations Act s.286"),
    _aml("NZ", 5, "AML/CFT Act 2009 s.49-51"),
    _books("NZ", 7, "TAA s.22"),
    _aml("AE", 5, "Federal Decree-Law 10/2025", events=("relationship_end", "transaction", "inspection")),
    _books("AE", 7, "Tax law of the UAE", evidence=("5-7 y",)),
    _aml("ZA", 5, "FICA s.23"),
    _books("ZA", 7, "Companies Act s.24; TAA s.29"),
    _aml("NG", 5, "ML(PP)A 2022 s.8"),
    _books("NG", 6, "Tax law of Nigeria"),
    _aml("TR", 8, "Law 5549 Art 8", events=("record_made", "transaction")),
    _books("TR", 10, "TTK Art 82"),
    Reading(
        row="PCI DSS 4.0.1", statute="PCI DSS 4.0.1, 3.3.1", fields=("sad",), ceiling=0, at_once=True,
        events=("authorization",), evidence=("never kept after authorization",),
    ),
    Reading(
        row="PCI DSS 4.0.1", statute="PCI DSS 4.0.1, 3.2.1", fields=("pan",), ceiling=0, events=("need_ended",),
        evidence=("no minimum", "business need"),
    ),
)  # fmt: skip
"""What a person read on 25 Nov 2026."""

PERSONAL: Final = {*AML, "screening"}
LIMITING: Final = re.compile(
    r"GDPR|DPDP|PDPA|PDPO|APPI|PIPA|APP 11|IPP 9|POPIA|NDPA|KVKK|LGPD|FADP|PIPEDA|LFPDPPP|45/2021"
)
"""Acts by which personal data that nobody must keep may not be kept."""


def make_table(rows: Mapping[str, Row]) -> dict[str, Any]:
    """Return the table of the readings. Raises ReadingError for one without evidence."""
    require_all_read(rows, {reading.row for reading in READINGS})
    table_rows: dict[str, Any] = {}
    countries: dict[str, list[str]] = {country: [] for country in EU}
    everywhere = []
    for reading in READINGS:
        prefix = "PCI" if reading.row.startswith("PCI") else reading.row
        law_id = f"{prefix}-{sum(known.rpartition('-')[0] == prefix for known in table_rows) + 1}"
        table_rows[law_id] = _make_row(law_id, reading, rows[reading.row])
        if prefix == "PCI":
            everywhere.append(law_id)
        for country in EU if prefix == "EU-AMLR" else [prefix] if prefix != "PCI" else []:
            countries.setdefault(country, []).append(law_id)
    return {
        "version": VERSION,
        "note": NOTE,
        "trusted": TRUSTED,
        "everywhere": everywhere,
        "countries": countries,
        "rows": table_rows,
    }


def _make_row(law_id: str, reading: Reading, row: Row) -> dict[str, Any]:
    text = " | ".join(row.values())
    years = {number for number in (reading.floor, reading.ceiling, reading.lock) if number}
    require_evidence(law_id, text, [rf"\b{number}\b" for number in sorted(years)] + list(reading.evidence))
    found = re.fullmatch(r"[HML][+-]?", row["confidence"])
    if found is None:
        raise ReadingError(f"{law_id}: no confidence in {row['confidence']!r}")
    made: dict[str, Any] = {
        "statute": reading.statute,
        "fields": sorted(reading.fields),
        "events": sorted(reading.events),
        "clock": reading.clock,
        "effective_from": reading.begins,
        "effective_to": reading.ends,
        "confidence": reading.confidence or found[0],
    }
    optional = {
        "floor_years": reading.floor,
        "ceiling_years": reading.ceiling,
        "lock_years": reading.lock,
        "notice_hours": reading.notice_hours,
        "at_once": reading.at_once or None,
        "storage_limit": (limit := LIMITING.search(row["erasure_duty"])) and limit[0],
    }
    if not PERSONAL & set(reading.fields):
        del optional["storage_limit"]
    return made | {key: value for key, value in optional.items() if value is not None}
