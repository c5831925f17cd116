"""Commands of the developers: benchmarks, soaks, the demo."""
