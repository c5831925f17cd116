"""The law of identification: the readings of `kyc_by_jurisdiction.csv`, row by row.

A reading is typed by a person: what must be known of whom, from which amount, from which day to which. It is held
against the CSV: the confidence is the CSV's own, every attribute needs its words in the sentence and every amount its
number, and a jurisdiction that is not read stops the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.law.readings import LAWS, TRAVEL_RULES
from scripts.law.table import BEGINS, EU, OPEN_END, TRUSTED, ReadingError, Row, require_all_read, require_evidence

VERSION: Final = "2026-11-25.1"
NOTE: Final = (
    "Made by `python -m scripts.law kyc`; see docs/policies.md. Days are integers in UTC; effective_to is the first "
    "day on which a row is no longer law. 20241230 is where the table begins, and 99991231 an end that is not known. "
    "Amounts are minor units: due diligence is owed from from_minor on. identity: of each list one is enough."
)
PRODUCTS: Final = ["account", "cash", "cash_instrument", "crypto", "exchange", "occasional", "professional", "transfer"]
TRAVELLING: Final = ["crypto", "transfer"]
NO_MINOR: Final = {"JPY", "KRW"}
EVIDENCE: Final = {
    "address": r"address|residence|usual residence",
    "date_of_birth": r"date (and place |and state )?of birth|date of birth|DOB|date \+",
    "employer": r"employer",
    "gender": r"gender|sex",
    "id_document": r"photo ID|identity.*document|document or electronic|OVD|Emirates ID|card IC|passport",
    "id_number": r"ID number|ID no|number|ID document details|PESEL|CURP|NRIC|NIN",
    "income": r"income",
    "name": r"name",
    "nationality": r"nationalit|citizenship",
    "occupation": r"occupation",
    "email": r"e-mail",
    "phone": r"phone|contact",
    "photo": r"photo",
    "place_of_birth": r"place (and|of|\+)|state of birth|country of birth",
    "purpose": r"purpose",
    "signature": r"signature",
    "tax_id": r"codice fiscale|CPF|PAN|RFC|TIN",
}
_CONFIDENCE: Final = re.compile(r"[HML][+-]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A reading of one row for a span of days, [`begins`, `ends`).

    `identity` is words, with `|` between those of which one is enough. `thresholds` maps a product to `EUR 1000` (from
    that amount on) or `> EUR 1000` (over it).
    """

    row: str
    statute: str
    identity: str
    thresholds: Mapping[str, str]
    simplified: str = ""
    begins: int = BEGINS
    ends: int = OPEN_END
    countries: tuple[str, ...] = ()
    confidence: Mapping[str, str] = field(default_factory=dict)


def make_table(rows: Mapping[str, Row]) -> dict[str, Any]:
    """Return the table of the readings. Raises ReadingError for one without evidence."""
    laws = [Law(**reading) for reading in LAWS]
    require_all_read(rows, {law.row for law in laws} | {rule["row"] for rule in TRAVEL_RULES})
    table_rows: dict[str, Any] = {}
    countries: dict[str, list[str]] = {country: [] for country in EU}
    for law in laws:
        number = sum(id_.rpartition("-")[0] == law.row for id_ in table_rows) + 1
        law_id = f"{law.row}-{number}"
        table_rows[law_id] = _make_row(law_id, law, rows[law.row])
        for country in law.countries or (law.row,):
            countries.setdefault(country, []).append(law_id)
    return {
        "version": VERSION,
        "note": NOTE,
        "trusted": TRUSTED,
        "products": PRODUCTS,
        "travelling": TRAVELLING,
        "countries": countries,
        "rows": table_rows,
        "travel": _make_travel(rows),
    }


def _make_row(law_id: str, law: Law, row: Row) -> dict[str, Any]:
    for words in (law.identity, law.simplified):
        for attribute in re.findall(r"\w+", words):
            require_evidence(law_id, row["natural_person_identity"], [EVIDENCE[attribute]])
    made: dict[str, Any] = {
        "statute": law.statute,
        "effective_from": law.begins,
        "effective_to": law.ends,
        "confidence": _read_confidence(row["confidence"]) | dict(law.confidence),
        "identity": _split(law.identity),
        "thresholds": _read_thresholds(law_id, law.thresholds, row["occasional_threshold"]),
    }
    if law.simplified:
        made["identity_simplified"] = _split(law.simplified)
    unknown = set(made["thresholds"]) - set(PRODUCTS)
    if unknown:
        raise ReadingError(f"{law_id}: unknown products {sorted(unknown)}")
    return made


def _make_travel(rows: Mapping[str, Row]) -> dict[str, list[dict[str, Any]]]:
    travel: dict[str, list[dict[str, Any]]] = {}
    for rule in TRAVEL_RULES:
        row = rows[rule["row"]]
        made = {
            "statute": rule["statute"],
            "effective_from": rule.get("begins", BEGINS),
            "effective_to": rule.get("ends", OPEN_END),
            "confidence": rule.get("confidence", _read_confidence(row["confidence"])["identity"]),
            "thresholds": _read_thresholds(
                f"travel of {rule['row']}", rule["thresholds"], f"{row['travel_rule']} | {row['occasional_threshold']}"
            ),
        }
        for country in rule.get("countries", (rule["row"],)):
            travel.setdefault(country, []).append(made)
    return travel


def _read_confidence(text: str) -> dict[str, str]:
    """Return the confidence in each part. `H (…) / M others` is H in what was read and M in the levels."""
    found = _CONFIDENCE.findall(text.partition("(")[0].partition("/")[0])
    if len(found) != 1:
        raise ReadingError(f"no confidence in {text!r}")
    levels = "M" if "M others" in text else found[0]
    return {"identity": found[0], "levels": levels, "thresholds": found[0]}


def _read_thresholds(name: str, thresholds: Mapping[str, str], text: str) -> dict[str, Any]:
    made = {}
    for product, reading in sorted(thresholds.items()):
        found = re.fullmatch(r"(> )?([A-Z]{3}) (\d+)", reading)
        if found is None:
            raise ReadingError(f"{name}: {reading!r} is no amount")
        over, currency, amount = found.groups()
        if amount != "0":
            require_evidence(name, text, [rf"{currency}\W+(\d+-)?{amount}\b|{amount}\b"])
        minor = int(amount) * (1 if currency in NO_MINOR else 100)
        made[product] = {"currency": currency, "from_minor": minor + 1 if over else minor}
    return made


def _split(words: str) -> list[list[str]]:
    return [choices.split("|") for choices in sorted(words.split())]
