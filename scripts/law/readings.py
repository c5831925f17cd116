"""What a person read in `kyc_by_jurisdiction.csv` on 25 Nov 2026. See scripts/law/kyc.py for the form.

A product that a law names no amount for is left out: then due diligence is owed from any amount, and a person is asked.
"""

from __future__ import annotations

from typing import Any, Final

from scripts.law.table import EU

AMLR: Final = 20270710
"""Regulation (EU) 2024/1624 applies, and takes the place of the member states' acts."""
GB_CHANGE: Final = 20260630
AE_CHANGE: Final = 20251214
AU_REFORM: Final = 20260331
AU_TRANCHE_2: Final = 20260701

LAWS: Final[list[dict[str, Any]]] = [
    {
        "row": "EU-AMLR",
        "statute": "Regulation (EU) 2024/1624 Art 19, 20, 22",
        "begins": AMLR,
        "countries": EU,
        "identity": "name place_of_birth date_of_birth nationality id_number address",
        "simplified": "name place_of_birth date_of_birth nationality",
        "thresholds": {
            "account": "EUR 0",
            "occasional": "EUR 10000",
            "transfer": "EUR 1000",
            "crypto": "EUR 1000",
            "cash": "EUR 3000",
        },
    },
    {
        "row": "DE",
        "statute": "GwG s.10-12, 14, 15",
        "ends": AMLR,
        "identity": "name place_of_birth date_of_birth nationality address id_document id_number",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "EUR 1000", "crypto": "EUR 1000"},
    },
    {
        "row": "FR",
        "statute": "CMF L561-5, R561-5, R561-10",
        "ends": AMLR,
        "identity": "name date_of_birth place_of_birth id_document",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "crypto": "EUR 1000", "exchange": "EUR 8000"},
    },
    {
        "row": "IT",
        "statute": "D.Lgs 231/2007 Art 17-19, 23-25",
        "ends": AMLR,
        "identity": "name place_of_birth date_of_birth address id_number tax_id",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "> EUR 1000"},
    },
    {
        "row": "ES",
        "statute": "Ley 10/2010; RD 304/2014 Art 4, 6",
        "ends": AMLR,
        "identity": "id_document",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 1000", "transfer": "EUR 0"},
    },
    {
        "row": "NL",
        "statute": "Wwft Art 3, 6-9, 33",
        "ends": AMLR,
        "identity": "name date_of_birth address id_number",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "EUR 1000"},
    },
    {
        "row": "PL",
        "statute": "Act of 1 Mar 2018 on counteracting ML, Art 35, 36",
        "ends": AMLR,
        "identity": "name nationality id_number|date_of_birth",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "> EUR 1000", "crypto": "EUR 1000"},
    },
    {
        "row": "IE",
        "statute": "CJ (ML and TF) Act 2010 s.33, 34A, 37-39",
        "ends": AMLR,
        "identity": "name date_of_birth address id_document",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "EUR 1000"},
    },
    {
        "row": "GB",
        "ends": GB_CHANGE,
        "statute": "MLR 2017 (SI 2017/692) before the Amendment Regulations 2026",
        "identity": "name address date_of_birth",
        "thresholds": {"account": "EUR 0", "occasional": "EUR 15000", "transfer": "EUR 1000", "crypto": "EUR 1000"},
    },
    {
        "row": "GB",
        "begins": GB_CHANGE,
        "statute": "MLR 2017 (SI 2017/692) as amended in 2026",
        "identity": "name address date_of_birth",
        "thresholds": {"account": "GBP 0", "transfer": "GBP 800", "crypto": "GBP 800"},
    },
    {
        "row": "CH",
        "statute": "AMLA Art 3-7; AMLO-FINMA Art 44, 51",
        "identity": "name date_of_birth address nationality id_document",
        "thresholds": {"account": "CHF 0", "cash": "CHF 15000", "exchange": "CHF 5000", "crypto": "CHF 1000"},
    },
    {
        "row": "US",
        "statute": "31 USC 5318(l); 31 CFR 1020.220",
        "identity": "name date_of_birth address id_number",
        "thresholds": {
            "account": "USD 0",
            "transfer": "USD 3000",
            "cash": "> USD 10000",
            "cash_instrument": "USD 3000",
        },
    },
    {
        "row": "CA",
        "statute": "PCMLTFA; PCMLTFR s.105",
        "identity": "name address date_of_birth occupation id_document",
        "thresholds": {
            "account": "CAD 0",
            "cash": "CAD 10000",
            "transfer": "CAD 1000",
            "crypto": "CAD 1000",
            "cash_instrument": "CAD 3000",
        },
    },
    {
        "row": "MX",
        "statute": "LIC Art 115; LFPIORPI Art 17",
        "identity": "name gender date_of_birth place_of_birth nationality occupation address phone email "
        "id_number tax_id id_document",
        "thresholds": {"account": "MXN 0"},
    },
    {
        "row": "BR",
        "statute": "Lei 9.613/1998; Circular BCB 3.978/2020 Art 16-20",
        "identity": "name tax_id address income",
        "thresholds": {"account": "BRL 0", "cash": "BRL 2000"},
    },
    {
        "row": "IN",
        "statute": "PMLA 2002; PML Rules 2005 r.9",
        "identity": "id_document tax_id photo",
        "thresholds": {"account": "INR 0", "occasional": "INR 50000", "transfer": "INR 0"},
    },
    {
        "row": "SG",
        "statute": "MAS Notice 626; PSN01, PSN02",
        "identity": "name id_number address date_of_birth nationality",
        "thresholds": {"account": "SGD 0", "occasional": "SGD 20000", "crypto": "SGD 0"},
    },
    {
        "row": "HK",
        "statute": "AMLO Cap 615 Sch 2 s.2-4",
        "identity": "name date_of_birth nationality id_number address",
        "thresholds": {"account": "HKD 0", "occasional": "HKD 120000", "transfer": "HKD 8000", "crypto": "HKD 8000"},
    },
    {
        "row": "JP",
        "statute": "Act on Prevention of Transfer of Criminal Proceeds Art 4",
        "identity": "name address date_of_birth purpose occupation",
        "thresholds": {
            "account": "JPY 0",
            "cash": "JPY 2000000",
            "exchange": "JPY 2000000",
            "transfer": "JPY 100000",
            "crypto": "JPY 100000",
        },
    },
    {
        "row": "KR",
        "statute": "FTRA Art 5-2; Enforcement Decree 10-2 to 10-6",
        "identity": "name id_number address phone",
        "thresholds": {
            "account": "KRW 0",
            "occasional": "KRW 10000000",
            "transfer": "KRW 1000000",
            "crypto": "KRW 1000000",
        },
    },
    {
        "row": "AU",
        "ends": AU_REFORM,
        "statute": "AML/CTF Act 2006 before the amendments of 2024",
        "confidence": {"identity": "L", "levels": "L", "thresholds": "L"},  # the CSV says only that it changed
        "identity": "name date_of_birth|address",
        "thresholds": {"account": "AUD 0"},
    },
    {
        "row": "AU",
        "begins": AU_REFORM,
        "ends": AU_TRANCHE_2,
        "statute": "AML/CTF Act 2006 as amended 2024; Rules 2025",
        "identity": "name date_of_birth|address",
        "thresholds": dict.fromkeys(("account", "occasional", "transfer", "crypto", "cash", "exchange"), "AUD 0"),
    },
    {
        "row": "AU",
        "begins": AU_TRANCHE_2,
        "statute": "AML/CTF Act 2006 as amended 2024; Rules 2025, tranche 2",
        "identity": "name date_of_birth|address",
        "thresholds": dict.fromkeys(
            ("account", "occasional", "transfer", "crypto", "cash", "exchange", "professional"), "AUD 0"
        ),
    },
    {
        "row": "NZ",
        "statute": "AML/CFT Act 2009 s.15-25",
        "identity": "name date_of_birth address",
        "thresholds": {"account": "NZD 0", "cash": "NZD 10000", "transfer": "NZD 1000"},
    },
    {
        "row": "AE",
        "ends": AE_CHANGE,
        "statute": "Cabinet Decision 10/2019",
        "identity": "name nationality address date_of_birth place_of_birth id_document employer",
        "thresholds": {"account": "AED 0", "occasional": "AED 55000", "transfer": "AED 3500"},
    },
    {
        "row": "AE",
        "begins": AE_CHANGE,
        "statute": "Federal Decree-Law 10/2025; Cabinet Resolution 134/2025",
        "identity": "name nationality address date_of_birth place_of_birth id_document employer",
        "thresholds": {"account": "AED 0", "occasional": "AED 55000", "transfer": "AED 3500"},
    },
    {
        "row": "ZA",
        "statute": "FIC Act 38/2001 s.21, 21A",
        "identity": "name date_of_birth id_number",
        "thresholds": {"account": "ZAR 0", "occasional": "ZAR 5000"},
    },
    {
        "row": "NG",
        "statute": "ML(PP)A 2022 s.4; CBN CDD Regulations 2023",
        "identity": "name date_of_birth address phone id_number photo",
        "thresholds": {"account": "NGN 0", "occasional": "USD 1000"},
    },
    {
        "row": "TR",
        "statute": "Law 5549; Measures Regulation Art 6",
        "identity": "name date_of_birth nationality id_number address signature phone",
        "thresholds": {"account": "TRY 0", "occasional": "TRY 185000", "transfer": "TRY 15000", "crypto": "TRY 15000"},
    },
    {
        "row": "PH",
        "statute": "AMLA RA 9160, 2018 IRR",
        "identity": "name date_of_birth place_of_birth address nationality occupation signature",
        "thresholds": {"account": "PHP 0", "occasional": "PHP 100000"},
    },
    {
        "row": "MY",
        "statute": "AMLATFPUAA 2001; BNM policy document",
        "identity": "name id_number address date_of_birth nationality occupation",
        "thresholds": {"account": "MYR 0", "transfer": "MYR 3000", "cash": "MYR 50000"},
    },
    {
        "row": "CN",
        "statute": "AML Law 2024 revision",
        "identity": "name gender nationality occupation address phone id_number",
        "thresholds": {"account": "CNY 0", "cash": "CNY 50000"},
    },
]

TRAVEL_RULES: Final[list[dict[str, Any]]] = [
    {
        "row": "EU-TFR",
        "countries": EU,
        "statute": "Regulation (EU) 2023/1113",
        "thresholds": {"crypto": "EUR 0", "transfer": "> EUR 1000"},
    },
    {"row": "GB", "ends": GB_CHANGE, "statute": "MLR 2017, Part 7A, reg 64C", "thresholds": {"crypto": "> EUR 1000"}},
    {"row": "GB", "begins": GB_CHANGE, "statute": "MLR 2017, Part 7A, reg 64C", "thresholds": {"crypto": "> GBP 800"}},
    {"row": "CH", "statute": "AMLO-FINMA Art 10", "thresholds": {"crypto": "CHF 0", "transfer": "CHF 0"}},
    {"row": "US", "statute": "31 CFR 1010.410(f)", "thresholds": {"crypto": "USD 3000", "transfer": "USD 3000"}},
    {"row": "CA", "statute": "PCMLTFA 9.5", "thresholds": {"crypto": "CAD 1000", "transfer": "CAD 1000"}},
    {
        "row": "IN",
        "statute": "FIU-IND guidelines for VDA service providers",
        "thresholds": {"crypto": "INR 0", "transfer": "INR 50000"},
    },
    {"row": "SG", "statute": "MAS PSN02", "thresholds": {"crypto": "> SGD 1500", "transfer": "> SGD 1500"}},
    {"row": "HK", "statute": "AMLO Sch 2 s.12, 13A", "thresholds": {"crypto": "HKD 8000", "transfer": "HKD 8000"}},
    {
        "row": "JP",
        "statute": "Act on Prevention of Transfer of Criminal Proceeds Art 10-3, 10-5",
        "confidence": "L",  # sources disagree: the lower amount is taken
        "thresholds": {"crypto": "JPY 0", "transfer": "JPY 0"},
    },
    {
        "row": "KR",
        "statute": "FTRA Enforcement Decree 10",
        "thresholds": {"crypto": "KRW 1000000", "transfer": "KRW 1000000"},
    },
    {
        "row": "AU",
        "begins": AU_REFORM,
        "statute": "AML/CTF Act 2006 Part 5",
        "thresholds": {"crypto": "AUD 0", "transfer": "AUD 0"},
    },
    {"row": "NZ", "statute": "AML/CFT Act 2009 s.27-28", "thresholds": {"crypto": "NZD 1000", "transfer": "NZD 1000"}},
    {
        "row": "AE",
        "statute": "AML travel rule of the UAE",
        "thresholds": {"crypto": "AED 3500", "transfer": "AED 3500"},
    },
    {"row": "ZA", "statute": "FIC Directive 9 (2025)", "thresholds": {"crypto": "ZAR 5000"}},
    {"row": "NG", "statute": "CBN AML/CFT/CPF Regulations 2022", "thresholds": {"transfer": "USD 1000"}},
    {"row": "TR", "statute": "Law 5549", "thresholds": {"crypto": "TRY 15000", "transfer": "TRY 15000"}},
    {"row": "PH", "statute": "AMLA RA 9160, 2018 IRR", "thresholds": {"transfer": "PHP 50000"}},
    {"row": "MY", "statute": "AMLATFPUAA 2001", "thresholds": {"transfer": "MYR 3000"}},
]
