"""Benchmarks: each a command of its own, each with a yardstick measured in the same run (docs/performance.md)."""
