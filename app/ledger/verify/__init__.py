"""Verification by somebody who trusts nobody: of a log, wherever it is kept, and of a single receipt.

Read in this order: report, source, rehash, tree, trust, head, log, receipt, directory. Nothing here needs Flask,
SQLAlchemy or a network.
"""

from app.ledger.verify.directory import ExportSource
from app.ledger.verify.head import RememberedHead, default_state_file, find_remembered, remember
from app.ledger.verify.log import Options, verify_log
from app.ledger.verify.receipt import verify_receipt_file
from app.ledger.verify.report import Level, Outcome, Place, Report, TamperedError
from app.ledger.verify.source import Bundle, LogSource
from app.ledger.verify.trust import read_trust

__all__ = [
    "Bundle",
    "ExportSource",
    "Level",
    "LogSource",
    "Options",
    "Outcome",
    "Place",
    "RememberedHead",
    "Report",
    "TamperedError",
    "default_state_file",
    "find_remembered",
    "read_trust",
    "remember",
    "verify_log",
    "verify_receipt_file",
]
