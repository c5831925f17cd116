"""People: their personal data, sealed under a key of their own, and its erasure (DESIGN.md, sections 3 and 4.5)."""
