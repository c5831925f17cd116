"""Assay: a ledger that proves what a fintech did (see ARCHITECTURE.md)."""
