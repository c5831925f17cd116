"""The `assay` command: parse, call one function, print."""
