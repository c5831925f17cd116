"""The ledger: what is logged, how it gets there, and how outsiders check it."""
